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

// The fields to blame and the pause are told, and details that cannot be read take nothing else with them.
func TestFromStatus(t *testing.T) {
	request := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: "image.encoded", Description: "is empty"},
	}}
	refusal := client.FromStatus(&rpcstatus.Status{
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
	if refusal.Code != "INVALID_ARGUMENT" || refusal.Message != "image.encoded: is empty" {
		t.Errorf("told %q", refusal)
	}
	if !slices.Equal(refusal.Violations, []client.Violation{{Field: "image.encoded", Description: "is empty"}}) {
		t.Errorf("blamed %v", refusal.Violations)
	}
	if refusal.RetryAfterMs == nil || *refusal.RetryAfterMs != 1500 {
		t.Errorf("told to wait %v", refusal.RetryAfterMs)
	}
}

// A number that is no gRPC code is UNKNOWN, and where nothing is to blame there is an empty list, not null.
func TestFromStatusWithoutDetails(t *testing.T) {
	refusal := client.FromStatus(&rpcstatus.Status{Code: 1234})
	if refusal.Code != "UNKNOWN" || refusal.Violations == nil || refusal.RetryAfterMs != nil {
		t.Errorf("told %+v", refusal)
	}
}

// Where there is no RetryInfo, the trailer that gRPC's repeats obey says how long to wait, if it says anything sensible.
func TestPushback(t *testing.T) {
	for trailer, want := range map[string]int64{"300": 300, "0": 0, "-1": -1, "soon": -1, "": -1} {
		err := status.Error(codes.ResourceExhausted, "full")
		got := client.FromError(err, metadata.Pairs("grpc-retry-pushback-ms", trailer)).RetryAfterMs
		if (got == nil) != (want < 0) || got != nil && *got != want {
			t.Errorf("%q: told to wait %v", trailer, got)
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
