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

// CallError is the error of a call or of one item of a stream.
type CallError struct {
	// Code is the name of the gRPC code, for instance INVALID_ARGUMENT.
	Code string `json:"code"`
	// Message is the server's message, or gRPC's own when no server responded.
	Message string `json:"message"`
	// Violations are the invalid fields of the request; never nil.
	Violations []Violation `json:"violations"`
	// RetryAfterMs is how many milliseconds to wait before a retry; nil where the server does not say.
	RetryAfterMs *int64 `json:"retry_after_ms"`
}

// Violation is an invalid field of the request, for instance products[2].images[0].encoded, and what is wrong with it.
type Violation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func (e *CallError) Error() string { return e.Code + ": " + e.Message }

// grpcError is implemented by gRPC's own errors.
type grpcError interface {
	error
	GRPCStatus() *status.Status
}

// FromError converts the error of a call and the trailer that came with it.
func FromError(err error, trailer metadata.MD) *CallError {
	received := status.Convert(err)
	// After the last retry gRPC puts words of its own before the server's; the server's are inside.
	if inner, ok := errors.AsType[grpcError](err); ok {
		received = inner.GRPCStatus()
	}
	callError := FromStatus(received.Proto())
	// A deadline that passes while gRPC waits to retry leaves the trailer of the previous attempt.
	if callError.RetryAfterMs == nil && received.Code() != codes.DeadlineExceeded && received.Code() != codes.Canceled {
		callError.RetryAfterMs = pushback(trailer)
	}
	return callError
}

// FromStatus converts the status of an item of a stream. Malformed details and details of unknown types are ignored.
func FromStatus(received *rpcstatus.Status) *CallError {
	callError := &CallError{Code: codeName(received.GetCode()), Message: received.GetMessage(), Violations: []Violation{}}
	for _, packed := range received.GetDetails() {
		detail, err := packed.UnmarshalNew()
		if err != nil {
			continue
		}
		switch detail := detail.(type) {
		case *errdetails.BadRequest:
			for _, each := range detail.GetFieldViolations() {
				callError.Violations = append(callError.Violations, Violation{each.GetField(), each.GetDescription()})
			}
		case *errdetails.RetryInfo:
			milliseconds := detail.GetRetryDelay().AsDuration().Milliseconds()
			callError.RetryAfterMs = &milliseconds
		}
	}
	return callError
}

func codeName(number int32) string {
	if name, known := code.Code_name[number]; known {
		return name
	}
	return code.Code_UNKNOWN.String()
}

// pushback reads the delay that gRPC's own retries obey; a server may send it without RetryInfo. Negative: do not retry.
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
