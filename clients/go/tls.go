package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// TLS says which server to trust, and which certificate to show it. All files are PEM, and are read by NewConn.
type TLS struct {
	// CA is the file of the CAs to trust, or of the server's own certificate; empty: those of the system.
	CA string
	// Certificate and Key are this client's, for a server that requires a certificate; both or neither.
	Certificate, Key string
}

// transportCredentials reads the files; without TLS the connection is not encrypted.
func transportCredentials(files *TLS) (credentials.TransportCredentials, error) {
	if files == nil {
		return insecure.NewCredentials(), nil
	}
	if (files.Certificate == "") != (files.Key == "") {
		return nil, errors.New("a client certificate needs its key, and a key its certificate: give both or neither")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.CA != "" {
		roots, err := os.ReadFile(files.CA)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(roots) {
			return nil, fmt.Errorf("%s holds no certificates in PEM format", files.CA)
		}
	}
	if files.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(files.Certificate, files.Key)
		if err != nil {
			return nil, fmt.Errorf("%s with %s: %w", files.Certificate, files.Key, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(config), nil
}
