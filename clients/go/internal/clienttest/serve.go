// Package clienttest gives tests a server to call.
package clienttest

import (
	"net"
	"testing"

	"google.golang.org/grpc"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
)

// Connect starts a server on a free port and returns a connection to it; both are closed when the test ends.
func Connect(t *testing.T, embedding lookalikev1.EmbeddingServiceServer) *grpc.ClientConn {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	lookalikev1.RegisterEmbeddingServiceServer(server, embedding)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := client.NewConn(listener.Addr().String(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
