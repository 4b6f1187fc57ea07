package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lookalike.example/client"
)

const usage = `usage: tour --image FILE --category C --product-id ID --folder DIR --bad-image FILE [options]

Makes the calls of a typical backend to a Lookalike server and prints the results as JSON.

  --server HOST:PORT         where the server listens (127.0.0.1:50051)
  --token TOKEN              sent as a bearer token; or LOOKALIKE_CLIENT_TOKEN in the environment
  --token-file FILE          a file of the token; or LOOKALIKE_CLIENT_TOKEN_FILE
  --tls                      encrypt the connection; trust the system's CAs; or LOOKALIKE_CLIENT_TLS=1
  --ca FILE                  encrypt the connection; trust these CAs, PEM; or LOOKALIKE_CLIENT_CA
  --cert FILE, --key FILE    the client's certificate and its key, PEM; or LOOKALIKE_CLIENT_CERT and ..._KEY
  --image FILE               the image to search by
  --category C               the category to search
  --product-id ID            the product to search by
  --folder DIR               the images to embed over one stream
  --bad-image FILE           a file that is not an image
  --k N                      how many neighbors (5)
  --deadline SECONDS         the deadline of each call, retries included (10)
  --stream-deadline SECONDS  the deadline of the stream (300)
`

type options struct {
	server, token               string
	tls                         *client.TLS // nil: no encryption
	image, badImage             string
	category, productID, folder string
	k                           uint32
	deadline, streamDeadline    time.Duration
}

// parseOptions parses the command line; it returns flag.ErrHelp for --help.
func parseOptions(arguments []string) (*options, error) {
	o := &options{k: 5, deadline: 10 * time.Second, streamDeadline: 300 * time.Second}
	flags := flag.NewFlagSet("tour", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.server, "server", "127.0.0.1:50051", "")
	flags.StringVar(&o.token, "token", "", "")
	tokenFile := flags.String("token-file", "", "")
	encrypt := flags.Bool("tls", false, "")
	files := &client.TLS{}
	flags.StringVar(&files.CA, "ca", "", "")
	flags.StringVar(&files.Certificate, "cert", "", "")
	flags.StringVar(&files.Key, "key", "", "")
	flags.StringVar(&o.image, "image", "", "")
	flags.StringVar(&o.category, "category", "", "")
	flags.StringVar(&o.productID, "product-id", "", "")
	flags.StringVar(&o.folder, "folder", "", "")
	flags.StringVar(&o.badImage, "bad-image", "", "")
	flags.Func("k", "", func(text string) error {
		k, err := strconv.ParseUint(text, 10, 32)
		o.k = uint32(k)
		if err != nil {
			return errors.New("must be a whole number, 0 or more")
		}
		return nil
	})
	flags.Func("deadline", "", seconds(&o.deadline))
	flags.Func("stream-deadline", "", seconds(&o.streamDeadline))
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for _, name := range []string{"server", "image", "category", "product-id", "folder", "bad-image"} {
		if flags.Lookup(name).Value.String() == "" {
			return nil, fmt.Errorf("--%s is required", name)
		}
	}
	if err := o.readToken(*tokenFile); err != nil {
		return nil, err
	}
	if strings.ContainsFunc(o.token, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("--token: must be printable ASCII characters: it is sent as a header")
	}
	return o, o.readTLS(*encrypt, files)
}

// readToken completes the options with the environment: a flag overrides it.
func (o *options) readToken(file string) error {
	if o.token == "" && file == "" {
		o.token, file = os.Getenv("LOOKALIKE_CLIENT_TOKEN"), os.Getenv("LOOKALIKE_CLIENT_TOKEN_FILE")
	}
	if o.token != "" && file != "" {
		return errors.New("give the token or the file of a token, not both")
	}
	if file != "" {
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("--token-file: %w", err)
		}
		if o.token = strings.TrimSpace(string(content)); o.token == "" {
			return fmt.Errorf("--token-file: %s is empty", file)
		}
	}
	return nil
}

// readTLS completes the options with the environment; any one of them turns TLS on.
func (o *options) readTLS(encrypt bool, files *client.TLS) error {
	if files.CA == "" {
		files.CA = os.Getenv("LOOKALIKE_CLIENT_CA")
	}
	if files.Certificate == "" && files.Key == "" {
		files.Certificate, files.Key = os.Getenv("LOOKALIKE_CLIENT_CERT"), os.Getenv("LOOKALIKE_CLIENT_KEY")
	}
	if (files.Certificate == "") != (files.Key == "") {
		return errors.New("--cert and --key belong together: give both or neither")
	}
	switch variable := strings.ToLower(os.Getenv("LOOKALIKE_CLIENT_TLS")); variable {
	case "", "0", "false", "no":
	case "1", "true", "yes":
		encrypt = true
	default:
		return fmt.Errorf("LOOKALIKE_CLIENT_TLS must be 1 or 0, not %q", variable)
	}
	if encrypt || *files != (client.TLS{}) {
		o.tls = files
	}
	return nil
}

// seconds parses a time above zero that fits a time.Duration.
func seconds(into *time.Duration) func(string) error {
	return func(text string) error {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || !(value > 0 && value < 1e9) {
			return errors.New("must be a number of seconds above 0 and below 1e9")
		}
		*into = time.Duration(value * float64(time.Second))
		return nil
	}
}

// readInputs reads the files that the calls need, so that a missing one is an error before the first call.
func readInputs(o *options) (*tour, error) {
	image, err := os.ReadFile(o.image)
	if err != nil {
		return nil, fmt.Errorf("--image: %w", err)
	}
	badImage, err := os.ReadFile(o.badImage)
	if err != nil {
		return nil, fmt.Errorf("--bad-image: %w", err)
	}
	files, err := filesIn(o.folder)
	if err != nil {
		return nil, fmt.Errorf("--folder: %w", err)
	}
	return &tour{options: o, image: image, badImage: badImage, files: files}, nil
}

// filesIn lists the names of the files directly in a folder, without hidden files and folders.
func filesIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		// Stat follows links; entry.IsDir does not
		if info, err := os.Stat(filepath.Join(folder, entry.Name())); err == nil && info.IsDir() {
			continue
		}
		names = append(names, entry.Name())
	}
	return names, nil
}
