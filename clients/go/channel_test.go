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

// Every spelling of a target on this machine is recognized, and no other target is.
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
			t.Errorf("IsLoopback(%q) = %t", target, got)
		}
	}
}

// An image much larger than gRPC's default retry buffer is sent again when the server was full.
func TestLargeImageIsRetried(t *testing.T) {
	server := &fullServer{rejections: 2}
	embedding := lookalikev1.NewEmbeddingServiceClient(clienttest.Connect(t, server))
	image := &lookalikev1.Image{Source: &lookalikev1.Image_Encoded{Encoded: make([]byte, 3<<20)}}
	if _, err := embedding.Embed(deadline(t), &lookalikev1.EmbedRequest{Image: image}); err != nil {
		t.Fatal(err)
	}
	if calls := server.calls.Load(); calls != 3 {
		t.Errorf("the server was called %d times", calls)
	}
}

// When every retry was rejected, the error has the server's own message and delay, without gRPC's words around them.
func TestLastErrorIsTheServers(t *testing.T) {
	server := &fullServer{rejections: 100}
	embedding := lookalikev1.NewEmbeddingServiceClient(clienttest.Connect(t, server))
	var trailer metadata.MD
	_, err := embedding.Embed(deadline(t), &lookalikev1.EmbedRequest{}, grpc.Trailer(&trailer))
	callError := client.FromError(err, trailer)
	if callError.Code != "RESOURCE_EXHAUSTED" || callError.Message != "the queue is full" {
		t.Errorf("error %q", callError)
	}
	if callError.RetryAfterMs == nil || *callError.RetryAfterMs != 1 {
		t.Errorf("RetryAfterMs %v", callError.RetryAfterMs)
	}
	if calls := server.calls.Load(); calls != 4 {
		t.Errorf("the server was called %d times", calls)
	}
}

// fullServer rejects its first calls.
type fullServer struct {
	lookalikev1.UnimplementedEmbeddingServiceServer
	rejections int32
	calls      atomic.Int32
}

func (s *fullServer) Embed(ctx context.Context, _ *lookalikev1.EmbedRequest) (*lookalikev1.EmbedResponse, error) {
	if s.calls.Add(1) <= s.rejections {
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
