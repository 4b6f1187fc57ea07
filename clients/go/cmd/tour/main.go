// Command tour asks a Lookalike server what a backend asks, and prints the answers as JSON. It is the program to start a
// client of your own from; clients/README.md tells what it does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"lookalike.example/client"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell has it: 128 and the number of SIGINT
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is the program: its arguments in, its exit status out.
func run(arguments []string, stdout, stderr io.Writer) int {
	complain := func(err error) { fmt.Fprintln(stderr, "tour:", strings.Join(strings.Fields(err.Error()), " ")) }

	o, err := parseOptions(arguments)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err != nil {
		complain(err)
		return exitUsage
	}
	tour, err := prepare(o)
	if err != nil {
		complain(err)
		return exitUsage
	}
	conn, err := client.NewConn(o.server, o.token)
	if err != nil {
		complain(fmt.Errorf("--server: %w", err))
		return exitUsage
	}
	defer conn.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	seen, failed := tour.take(ctx, conn)
	if ctx.Err() != nil {
		complain(errors.New("interrupted"))
		return exitInterrupted
	}
	if err := write(stdout, seen); err != nil {
		complain(err)
		return exitFailed
	}
	if failed != nil {
		complain(failed)
		return exitFailed
	}
	return 0
}

func write(out io.Writer, seen *report) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(seen)
}
