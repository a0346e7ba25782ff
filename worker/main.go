// Command worker runs rekey's workers. It is where keys are minted, stored and revoked, and the only process that
// ever holds one in plaintext.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // windows name time zones that this machine may not have

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/workers"
	"github.com/rekeyhq/rekey/workflows"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	cmd := command(os.Stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "worker: "+err.Error())
		var problems config.Problems
		if errors.As(err, &problems) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

type options struct {
	config             string
	embedded           bool
	database           string
	port, uiPort       int
	address, namespace string
	verbose            bool
}

func command(logs io.Writer) *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run rekey's workers",
		Long: `Works on rotations until it is told to stop; then it finishes the steps that are under way, which takes less than a
minute. Killed instead, it loses nothing: another worker goes on where it stopped.

Without --embedded it connects to the Temporal that TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, … or the Temporal config
file name. Exit codes: 0 stopped, 1 failed, 2 bad configuration.`,
		Example: `  worker --embedded --config rekey.yaml
  TEMPORAL_ADDRESS=temporal:7233 worker --config /etc/rekey/rekey.yaml`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o, logs) },
	}
	f := cmd.Flags()
	f.StringVar(&o.config, "config", config.DefaultFile, "the `file` that lists providers, stores and keys")
	f.BoolVar(&o.embedded, "embedded", false, "bring a Temporal server and its UI, on loopback")
	f.StringVar(&o.database, "database", "rekey.db", "with --embedded: the `file` that keeps its state; empty keeps it in memory only")
	f.IntVar(&o.port, "port", 7233, "with --embedded: port of Temporal; 0 takes a free one")
	f.IntVar(&o.uiPort, "ui-port", 8233, "with --embedded: port of the UI; 0 takes a free one")
	f.StringVar(&o.address, "address", "", "`host:port` of Temporal")
	f.StringVar(&o.namespace, "namespace", "", "Temporal `namespace`")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log every step")
	return cmd
}

func run(ctx context.Context, o options, logs io.Writer) error {
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	audit := slog.New(slog.NewJSONHandler(logs, nil)).With("log", "audit")
	acts, err := cfg.Open(ctx, audit)
	if err != nil {
		return err
	}
	var clientOptions client.Options
	if !o.embedded {
		// TLS and credentials of the environment are for another Temporal than the one we bring.
		if clientOptions, err = envconfig.LoadDefaultClientOptions(); err != nil {
			return fmt.Errorf("the Temporal settings of the environment cannot be read: %w", err)
		}
	}
	if o.address != "" {
		clientOptions.HostPort = o.address
	}
	if o.namespace != "" {
		clientOptions.Namespace = o.namespace
	}
	if clientOptions.Namespace == "" {
		clientOptions.Namespace = client.DefaultNamespace
	}
	if o.embedded {
		server, err := devserver.Start(ctx, devserver.Options{
			DatabaseFile: o.database, Namespace: clientOptions.Namespace, Port: o.port, UI: true, UIPort: o.uiPort,
			SearchAttributes: workflows.SearchAttributes(),
		})
		if err != nil {
			return err
		}
		defer func() { _ = server.Stop() }()
		clientOptions.HostPort = server.HostPort()
		fmt.Fprintf(logs, "Temporal on %s, UI on %s/namespaces/%s/workflows\n", server.HostPort(), server.UIURL(), server.Namespace())
	}
	clientOptions.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level})))
	c, err := client.DialContext(ctx, clientOptions)
	if err != nil {
		return fmt.Errorf("Temporal does not answer on %s: start it, or use --embedded: %w", clientOptions.HostPort, err)
	}
	defer c.Close()
	fatal := make(chan error, 1)
	w, err := workers.Start(ctx, c, clientOptions.Namespace, acts, workers.Options{OnFatalError: func(err error) {
		select {
		case fatal <- err:
		default: // one is enough
		}
	}})
	if err != nil {
		return err
	}
	fmt.Fprintf(logs, "Working on %d key(s) of install %s. Stop with Ctrl-C.\n", len(cfg.Keys), cfg.Install)
	select {
	case <-ctx.Done():
		fmt.Fprintln(logs, "Stopping: finishing the steps that are under way.")
		w.Stop()
		return nil
	case err := <-fatal:
		w.Stop()
		return fmt.Errorf("a worker stopped for good: %w", err)
	}
}
