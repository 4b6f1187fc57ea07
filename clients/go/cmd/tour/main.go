// Command tour makes the calls of a typical backend to a Lookalike server and prints the results as JSON: a starting
// point for your own client. clients/README.md documents it.
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
	exitInterrupted = 130 // as shells report it: 128 + SIGINT
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run runs the program and returns its exit status.
func run(arguments []string, stdout, stderr io.Writer) int {
	printError := func(err error) { fmt.Fprintln(stderr, "tour:", strings.Join(strings.Fields(err.Error()), " ")) }

	o, err := parseOptions(arguments)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return 0
	}
	if err != nil {
		printError(err)
		return exitUsage
	}
	tour, err := readInputs(o)
	if err != nil {
		printError(err)
		return exitUsage
	}
	conn, err := client.NewConn(o.server, o.token, o.tls)
	if err != nil {
		printError(fmt.Errorf("--server %s: %w", o.server, err))
		return exitUsage
	}
	if o.token != "" && o.tls == nil && !client.IsLoopback(o.server) {
		printError(fmt.Errorf("WARNING: the token is sent to %s without encryption; use --tls or --ca FILE", o.server))
	}
	defer conn.Close()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	results, failed := tour.run(ctx, conn)
	if ctx.Err() != nil {
		printError(errors.New("interrupted"))
		return exitInterrupted
	}
	if err := write(stdout, results); err != nil {
		printError(err)
		return exitFailed
	}
	if failed != nil {
		printError(failed)
		return exitFailed
	}
	return 0
}

func write(out io.Writer, results *report) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(results)
}
