// Command worker is the program `rekey-worker`: it runs rekey's workers. It is where keys are minted, stored and revoked, and the only process that
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
	"time"
	_ "time/tzdata" // windows name time zones that this machine may not have

	"github.com/spf13/cobra"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/keyless"
	"github.com/rekeyhq/rekey/internal/version"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// execute is main without the process.
func execute(ctx context.Context, args []string, getenv func(string) string, logs io.Writer) int {
	cmd := command(logs)
	cmd.SetArgs(args)
	cmd.SetErr(logs)
	err := keyless.Arguments(args)
	if err == nil {
		err = keyless.Environment(getenv)
	}
	if err == nil {
		err = cmd.ExecuteContext(ctx)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(logs, "rekey-worker: "+err.Error())
	var problems config.Problems
	var found *keyless.Found
	if errors.As(err, &problems) || errors.As(err, &found) {
		return 2
	}
	return 1
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
		Use:     "rekey-worker",
		Version: version.String(),
		Short:   "Run rekey's workers",
		Long: `Works on rotations until it is stopped; then it finishes the steps in progress, which takes less than a minute. Killed
instead, it loses nothing: another worker goes on where it stopped.

Without --embedded it connects to the Temporal that TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, … or the Temporal config
file name. It listens for webhooks only if rekey.yaml has a section "triggers" (docs/triggers.md). Exit codes:
0 stopped, 1 failed, 2 bad configuration.`,
		Example: `  rekey-worker --embedded --config rekey.yaml
  TEMPORAL_ADDRESS=temporal:7233 rekey-worker --config /etc/rekey/rekey.yaml`,
		Args: cobra.NoArgs, SilenceUsage: true, SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o, logs) },
	}
	cmd.SetVersionTemplate("{{.Name}} {{.Version}}\n")
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
	if o.embedded && noServer != nil {
		return noServer // before anything is made
	}
	cfg, err := config.Load(o.config)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	audit := slog.New(slog.NewJSONHandler(logs, nil)).With("log", "audit")
	setup, err := adapters.Open(ctx, cfg, audit)
	if err != nil {
		return err
	}
	if err := adapters.CheckChannels(cfg); err != nil {
		// Keys are rotated all the same; what could not be sent is in the details.
		fmt.Fprintf(logs, "Some channels cannot notify anybody (docs/notifications.md):\n%s\n", err)
	}
	if cfg.Triggers != nil {
		if err := triggers.Check(*cfg.Triggers); err != nil {
			return err
		}
	}
	var clientOptions sdkclient.Options
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
		clientOptions.Namespace = sdkclient.DefaultNamespace
	}
	for name, value := range map[string]string{"Temporal's address": clientOptions.HostPort, "Temporal's namespace": clientOptions.Namespace} {
		if err := keyless.Setting(name, value); err != nil {
			return err // from Temporal's config file: the environment was looked at before
		}
	}
	if o.embedded {
		var stop func()
		if clientOptions, stop, err = startEmbedded(ctx, o, clientOptions.Namespace, setup, logs); err != nil {
			return err
		}
		defer stop()
	}
	clientOptions.Logger = sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: level})))
	c, err := sdkclient.DialContext(ctx, clientOptions)
	if err != nil {
		return fmt.Errorf("Temporal does not answer on %s: start it, or use --embedded: %w", clientOptions.HostPort, err)
	}
	defer c.Close()
	fatal := make(chan error, 1)
	w, err := engine.Start(ctx, c, clientOptions.Namespace, setup, engine.Options{OnFatalError: func(err error) {
		select {
		case fatal <- err:
		default: // one is enough
		}
	}})
	if err != nil {
		return err
	}
	stopListening, err := listen(cfg, setup, c, logs)
	if err != nil {
		w.Stop()
		return err
	}
	fmt.Fprintf(logs, "Working on %d key(s) of install %s. Stop with Ctrl-C.\n", len(cfg.Keys), cfg.Install)
	select {
	case <-ctx.Done():
		fmt.Fprintln(logs, "Stopping: finishing the steps in progress.")
		stopListening()
		w.Stop()
		return nil
	case err := <-fatal:
		stopListening()
		w.Stop()
		return fmt.Errorf("a worker stopped for good: %w", err)
	}
}

// listen opens the listener for triggers, if rekey.yaml has any; stop ends it.
func listen(cfg *config.Config, setup *engine.Setup, c sdkclient.Client, logs io.Writer) (stop func(), err error) {
	if cfg.Triggers == nil {
		return func() {}, nil
	}
	l, err := triggers.Listen(triggers.Options{
		Config: *cfg.Triggers, Keys: cfg.Keys, Fingerprints: setup.Fingerprints,
		Start: func(ctx context.Context, in workflows.TriggerInput) (bool, error) {
			return client.New(c).StartTrigger(ctx, in)
		},
		Log: slog.New(slog.NewJSONHandler(logs, nil)).With("log", "triggers"),
	})
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(logs, "Listening for triggers on http://%s/triggers/… (%d source(s))\n", l.Addr(), len(cfg.Triggers.Sources))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = l.Stop(ctx) // who was cut off sends it again
	}, nil
}
