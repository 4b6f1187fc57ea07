package client_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
	"lookalike.example/client/internal/clienttest"
)

// A target on this machine, however it is spelled, is called without a proxy, and no other is.
func TestIsLoopback(t *testing.T) {
	for target, want := range map[string]bool{
		"localhost:50051":           true,
		"LocalHost.:50051":          true,
		"127.0.0.1:50051":           true,
		"127.8.9.10":                true,
		"[::1]:50051":               true,
		"::1":                       true,
		"[::ffff:127.0.0.1]:50051":  true,
		"dns:localhost:50051":       true,
		"dns:///127.0.0.1:50051":    true,
		"passthrough:///[::1]:1":    true,
		"unix:/run/lookalike.sock":  true,
		"unix-abstract:lookalike":   true,
		"localhost.example:50051":   false,
		"127.0.0.1.example:50051":   false,
		"128.0.0.1:50051":           false,
		"[2001:db8::1]:50051":       false,
		"dns:///search.shop:50051":  false,
		"dns://127.0.0.1/shop:5005": false,
		"":                          false,
	} {
		if got := client.IsLoopback(target); got != want {
			t.Errorf("IsLoopback(%q) is %t", target, got)
		}
	}
}

// A photo much larger than gRPC's own buffer for repeats is sent again when the server was full.
func TestLargePhotoIsRepeated(t *testing.T) {
	server := &fullServer{refusals: 2}
	embedding := lookalikev1.NewEmbeddingServiceClient(clienttest.Connect(t, server))
	photo := &lookalikev1.Image{Source: &lookalikev1.Image_Encoded{Encoded: make([]byte, 3<<20)}}
	if _, err := embedding.Embed(deadline(t), &lookalikev1.EmbedRequest{Image: photo}); err != nil {
		t.Fatal(err)
	}
	if calls := server.calls.Load(); calls != 3 {
		t.Errorf("the server was called %d times", calls)
	}
}

// When every repeat was refused, the server's own sentence and pause are told, without gRPC's words around them.
func TestLastRefusalIsToldAsItWas(t *testing.T) {
	server := &fullServer{refusals: 100}
	embedding := lookalikev1.NewEmbeddingServiceClient(clienttest.Connect(t, server))
	var trailer metadata.MD
	_, err := embedding.Embed(deadline(t), &lookalikev1.EmbedRequest{}, grpc.Trailer(&trailer))
	refusal := client.FromError(err, trailer)
	if refusal.Code != "RESOURCE_EXHAUSTED" || refusal.Message != "the queue is full" {
		t.Errorf("told %q", refusal)
	}
	if refusal.RetryAfterMs == nil || *refusal.RetryAfterMs != 1 {
		t.Errorf("told to wait %v", refusal.RetryAfterMs)
	}
	if calls := server.calls.Load(); calls != 4 {
		t.Errorf("the server was called %d times", calls)
	}
}

// fullServer refuses its first calls.
type fullServer struct {
	lookalikev1.UnimplementedEmbeddingServiceServer
	refusals int32
	calls    atomic.Int32
}

func (s *fullServer) Embed(ctx context.Context, _ *lookalikev1.EmbedRequest) (*lookalikev1.EmbedResponse, error) {
	if s.calls.Add(1) <= s.refusals {
		if err := grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "1")); err != nil {
			return nil, err
		}
		return nil, status.Error(codes.ResourceExhausted, "the queue is full")
	}
	return &lookalikev1.EmbedResponse{}, nil
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
