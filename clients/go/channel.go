// Package client adds what a Go caller of Lookalike needs to the generated stubs in gen: a connection configured for
// images, retries and proxies, and the errors of calls as plain values.
package client

import (
	"context"
	_ "embed"
	"net/netip"
	"strings"

	"google.golang.org/grpc"
)

// MaxMessageBytes is the size limit of a message, in both directions.
const MaxMessageBytes = 64 << 20

// The retry policy. The file is the same for every language.
//
//go:embed service_config.json
var serviceConfig string

// gRPC does not retry a call whose messages, each with a header of five bytes, are larger than this. Its default is
// 256 KiB: less than an image.
const retryBufferBytes = MaxMessageBytes + 5

// NewConn creates a connection to target, HOST:PORT or any gRPC target; it connects at the first call and is encrypted
// unless tls is nil. A token that is not empty is sent with each call as a bearer token.
func NewConn(target, token string, tls *TLS) (*grpc.ClientConn, error) {
	encryption, err := transportCredentials(tls)
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(encryption),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// a DNS TXT record must not replace the file
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(MaxMessageBytes),
			grpc.MaxCallSendMsgSize(MaxMessageBytes),
			grpc.MaxRetryRPCBufferSize(retryBufferBytes),
		),
	}
	if IsLoopback(target) {
		// a proxy in the environment does not reach this machine's loopback
		options = append(options, grpc.WithNoProxy())
	}
	if token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient(target, options...)
}

// IsLoopback reports whether a gRPC target is on this machine: localhost, 127.0.0.0/8, ::1 or a unix socket.
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

type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity allows a token without TLS, for a private network.
func (bearer) RequireTransportSecurity() bool { return false }
