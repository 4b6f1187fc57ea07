package client

import (
	"errors"
	"strconv"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Refusal is why a call, or an item of a stream, failed.
type Refusal struct {
	// Code is the name of the gRPC code, as in INVALID_ARGUMENT.
	Code string `json:"code"`
	// Message is the server's sentence, or gRPC's own when no server answered.
	Message string `json:"message"`
	// Violations are the fields of the request that are to blame; never nil.
	Violations []Violation `json:"violations"`
	// RetryAfterMs is how many milliseconds to wait before a repeat; nil where the server does not say.
	RetryAfterMs *int64 `json:"retry_after_ms"`
}

// Violation is a field of the request, as in products[2].images[0].encoded, and what is wrong with it.
type Violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// grpcError is what gRPC's own errors are.
type grpcError interface {
	error
	GRPCStatus() *status.Status
}

// FromError reads the error of a call and the trailer that came with it.
func FromError(err error, trailer metadata.MD) *Refusal {
	told := status.Convert(err)
	// After the last repeat gRPC puts words of its own before the server's; the server's are inside.
	if inner, ok := errors.AsType[grpcError](err); ok {
		told = inner.GRPCStatus()
	}
	refusal := FromStatus(told.Proto())
	// A deadline that passes while gRPC waits to repeat leaves the trailer of the attempt before.
	if refusal.RetryAfterMs == nil && told.Code() != codes.DeadlineExceeded && told.Code() != codes.Canceled {
		refusal.RetryAfterMs = pushback(trailer)
	}
	return refusal
}

// FromStatus reads the status of an item of a stream. Details that are malformed, or of no kind known here, count as none.
func FromStatus(told *rpcstatus.Status) *Refusal {
	refusal := &Refusal{Code: codeName(told.GetCode()), Message: told.GetMessage(), Violations: []Violation{}}
	for _, packed := range told.GetDetails() {
		detail, err := packed.UnmarshalNew()
		if err != nil {
			continue
		}
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, each := range detail.GetFieldViolations() {
				refusal.Violations = append(refusal.Violations, Violation{each.GetField(), each.GetDescription()})
			}
		case *errdetails.RetryInfo:
			milliseconds := detail.GetRetryDelay().AsDuration().Milliseconds()
			refusal.RetryAfterMs = &milliseconds
		}
	}
	return refusal
}

func codeName(number int32) string {
	if name, known := code.Code_name[number]; known {
		return name
	}
	return code.Code_UNKNOWN.String()
}

// pushback is what gRPC's own repeats obey; a server may send it without RetryInfo. Negative: do not repeat.
func pushback(trailer metadata.MD) *int64 {
	values := trailer.Get("grpc-retry-pushback-ms")
	if len(values) != 1 {
		return nil
	}
	milliseconds, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || milliseconds < 0 {
		return nil
	}
	return &milliseconds
}
