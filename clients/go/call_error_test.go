package client_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"lookalike.example/client"
)

// The invalid fields and the delay are read, and malformed details do not hide the others.
func TestFromStatus(t *testing.T) {
	request := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "image.encoded", Description: "is empty"},
	}}
	callError := client.FromStatus(&rpcstatus.Status{
		Code:    int32(codes.InvalidArgument),
		Message: "image.encoded: is empty",
		Details: []*anypb.Any{
			{TypeUrl: "type.googleapis.com/google.rpc.BadRequest", Value: []byte{0xff, 0xff}},
			{TypeUrl: "type.googleapis.com/of.Tomorrow", Value: []byte("x")},
			{},
			packed(t, request),
			packed(t, &errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)}),
		},
	})
	if callError.Code != "INVALID_ARGUMENT" || callError.Message != "image.encoded: is empty" {
		t.Errorf("error %q", callError)
	}
	if !slices.Equal(callError.Violations, []client.Violation{{Field: "image.encoded", Description: "is empty"}}) {
		t.Errorf("violations %v", callError.Violations)
	}
	if callError.RetryAfterMs == nil || *callError.RetryAfterMs != 1500 {
		t.Errorf("RetryAfterMs %v", callError.RetryAfterMs)
	}
}

// A number that is not a gRPC code is UNKNOWN, and without violations there is an empty list, not null.
func TestFromStatusWithoutDetails(t *testing.T) {
	callError := client.FromStatus(&rpcstatus.Status{Code: 1234})
	if callError.Code != "UNKNOWN" || callError.Violations == nil || callError.RetryAfterMs != nil {
		t.Errorf("error %+v", callError)
	}
}

// Without RetryInfo the delay is that of the trailer that gRPC's retries obey, if it is valid.
func TestPushback(t *testing.T) {
	for trailer, want := range map[string]int64{"300": 300, "0": 0, "-1": -1, "soon": -1, "": -1} {
		err := status.Error(codes.ResourceExhausted, "full")
		got := client.FromError(err, metadata.Pairs("grpc-retry-pushback-ms", trailer)).RetryAfterMs
		if (got == nil) != (want < 0) || got != nil && *got != want {
			t.Errorf("%q: RetryAfterMs %v", trailer, got)
		}
	}
}

func packed(t *testing.T, detail proto.Message) *anypb.Any {
	t.Helper()
	packed, err := anypb.New(detail)
	if err != nil {
		t.Fatal(err)
	}
	return packed
}
