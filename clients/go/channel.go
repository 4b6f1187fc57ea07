// Package client is what a Go caller of Lookalike needs beside the generated stubs in gen: a connection set up for
// photos, repeats and proxies, and the reasons for a failed call in plain values.
package client

import (
	"context"
	_ "embed"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// MaxMessageBytes is the largest message sent or taken.
const MaxMessageBytes = 64 << 20

// What gRPC itself repeats. The file is the same for every language.
//
//go:embed service_config.json
var serviceConfig string

// gRPC never repeats a call whose messages are larger than this, each with its five bytes in front, and its own limit is
// 256 KiB: less than a photo.
const retryBufferBytes = MaxMessageBytes + 5

// NewConn sets up a connection to target, HOST:PORT or any gRPC target; nothing is sent before the first call.
// Where token is not empty each call carries it as a bearer token. The connection is not encrypted.
func NewConn(target, token string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// what a name server says in its TXT records must not take the place of the file
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageBytes),
			grpc.MaxCallSendMsgSize(MaxMessageBytes),
			grpc.MaxRetryRPCBufferSize(retryBufferBytes),
		),
	}
	if IsLoopback(target) {
		// a proxy in the environment is for the world outside this machine
		options = append(options, grpc.WithNoProxy())
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient(target, options...)
}

// IsLoopback tells whether a gRPC target names this machine itself: localhost, 127.0.0.0/8, ::1 or a unix socket.
func IsLoopback(target string) bool {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return true
	}
	address := target[strings.LastIndex(target, "/")+1:]
	address = strings.TrimPrefix(address, "dns:")
	host := address
	if bracketed, found := strings.CutPrefix(address, "["); found {
		host, _, _ = strings.Cut(bracketed, "]")
	} else if strings.Count(address, ":") == 1 {
		host, _, _ = strings.Cut(address, ":")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().IsLoopback()
	}
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// bearer sends a token with each call.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity allows a token without TLS, which the server does not have: the network must be private.
func (bearer) RequireTransportSecurity() bool { return false }
