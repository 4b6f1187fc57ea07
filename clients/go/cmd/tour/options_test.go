package main

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lookalike.example/client"
)

// Invalid options are rejected before any call: one line on standard error, and exit status 2.
func TestInvalidOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "image.jpg")
	touch(t, file)
	good := []string{
		"--image", file, "--category=Men", "--product-id", "S0001", "--folder", filepath.Dir(file), "--bad-image", file,
	}
	if _, err := parseOptions(good); err != nil {
		t.Fatal(err)
	}
	with := func(more ...string) []string { return slices.Concat(good, more) }
	for name, arguments := range map[string][]string{
		"nothing":              nil,
		"an unknown option":    with("--color", "red"),
		"an argument":          with("red"),
		"k is not a number":    with("--k", "five"),
		"k below 0":            with("--k=-1"),
		"no time":              with("--deadline", "0"),
		"a time below 0":       with("--stream-deadline=-1"),
		"an infinite time":     with("--deadline", "inf"),
		"a time of NaN":        with("--deadline", "nan"),
		"a token of two lines": with("--token", "a\nb"),
		"a token and a file":   with("--token", "a", "--token-file", file),
		"no such token file":   with("--token-file", file+".gone"),
		"an empty token file":  with("--token-file", file),
		"half a certificate":   with("--cert", file),
		"a key alone":          with("--key", file),
		"no such CA":           with("--ca", file+".gone"),
		"a CA without PEM":     with("--ca", file),
		"a certificate of air": with("--cert", file, "--key", file),
		"no such image":        with("--image", file+".gone"),
		"no such bad image":    with("--bad-image", file+".gone"),
		"a file as the folder": with("--folder", file),
	} {
		var stdout, stderr bytes.Buffer
		status := run(arguments, &stdout, &stderr)
		line, rest, _ := strings.Cut(stderr.String(), "\n")
		if status != exitUsage || stdout.Len() > 0 || !strings.HasPrefix(line, "tour: ") || rest != "" {
			t.Errorf("%s: exit %d, standard output %q, standard error %q", name, status, &stdout, &stderr)
		}
	}
}

// Each option of TLS turns it on; flags override the environment, and empty variables count as absent.
func TestConnectionOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	required := []string{"--image=i", "--category=c", "--product-id=p", "--folder=f", "--bad-image=b"}
	for _, each := range []struct {
		arguments   []string
		environment map[string]string
		token       string
		tls         *client.TLS
	}{
		{nil, nil, "", nil},
		{nil, map[string]string{"TLS": "0", "CA": "", "TOKEN": "a"}, "a", nil},
		{[]string{"--tls"}, nil, "", &client.TLS{}},
		{nil, map[string]string{"TLS": "1"}, "", &client.TLS{}},
		{nil, map[string]string{"CA": "ca.pem", "TOKEN_FILE": file}, "from-file", &client.TLS{CA: "ca.pem"}},
		{
			[]string{"--ca=flag.pem", "--cert=flag.crt", "--key=flag.key", "--token=flag"},
			map[string]string{"CA": "ca.pem", "CERT": "c", "KEY": "k", "TOKEN_FILE": file},
			"flag", &client.TLS{CA: "flag.pem", Certificate: "flag.crt", Key: "flag.key"},
		},
		{nil, map[string]string{"CERT": "c", "KEY": "k"}, "", &client.TLS{Certificate: "c", Key: "k"}},
	} {
		for _, name := range []string{"TOKEN", "TOKEN_FILE", "TLS", "CA", "CERT", "KEY"} {
			t.Setenv("LOOKALIKE_CLIENT_"+name, each.environment[name])
		}
		o, err := parseOptions(slices.Concat(required, each.arguments))
		if err != nil {
			t.Errorf("%q with %q: %v", each.arguments, each.environment, err)
			continue
		}
		if o.token != each.token || !reflect.DeepEqual(o.tls, each.tls) {
			t.Errorf("%q with %q: token %q, TLS %+v", each.arguments, each.environment, o.token, o.tls)
		}
	}
}

// The files directly in the folder are listed by the bytes of their names; hidden files, folders and links to folders are
// not.
func TestFilesIn(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"b.jpg", "\U0001D11E.jpg", "\uFF5A.jpg", ".hidden", "A.jpg"} {
		touch(t, filepath.Join(folder, name))
	}
	if err := os.Mkdir(filepath.Join(folder, "more"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"also-more": "more", "dangling.jpg": "nowhere"} {
		if err := os.Symlink(filepath.Join(folder, to), filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	names, err := filesIn(folder)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"A.jpg", "b.jpg", "dangling.jpg", "\uFF5A.jpg", "\U0001D11E.jpg"}; !slices.Equal(names, want) {
		t.Errorf("found %q", names)
	}
}

func touch(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}
