// Command starter is the command line `rekey`: it starts rotations, shows them, and sends the decisions that people take.
// It talks to Temporal; only supply, store, doctor, plan and apply reach providers and stores themselves.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"slices"
	"strings"
	"syscall"
	_ "time/tzdata" // windows name time zones that this machine may not have

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	"go.temporal.io/sdk/log"
	"golang.org/x/term"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/keyless"
	"github.com/rekeyhq/rekey/internal/version"
	"github.com/rekeyhq/rekey/rotation"
)

// The exit codes, which exitCodes documents.
const (
	exitOK         = 0
	exitFailed     = 1
	exitBadInput   = 2
	exitRefused    = 3
	exitRolledBack = 4
	// exitInterrupted is what shells give to a process that Ctrl-C ended.
	exitInterrupted = 130
)

// exitCodes is the one description of the exit codes: --help shows it, and docs/operating.md holds it as it is.
const exitCodes = `Exit codes:
  0  done
  1  failed: something could not be reached, or went wrong
  2  bad input; nothing was changed
  3  refused; nothing was changed: the rotation did not take it (wrong phase, already running), you did not confirm,
     store put found a value, plan --check found something to change, or inbox --check found something that waits
  4  the rotation was rolled back (rotate --watch)
130  interrupted by Ctrl-C at a prompt; nothing was changed`

// exit is an error that chooses the exit code.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

func badInput(format string, args ...any) error {
	return &exit{exitBadInput, fmt.Errorf(format, args...)}
}

func refused(format string, args ...any) error {
	return &exit{exitRefused, fmt.Errorf(format, args...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second Ctrl-C ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	a := &app{in: in, out: out, errOut: errOut}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	err := keylessInput(args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	code := a.code(err)
	// An error while flags are read comes before the flag has been.
	if a.json || a.parsing && slices.Contains(args, "--json") {
		e := json.NewEncoder(errOut)
		e.SetEscapeHTML(false)
		_ = e.Encode(map[string]any{"error": err.Error(), "exit_code": code})
	} else {
		fmt.Fprintln(errOut, "rekey: "+err.Error())
	}
	return code
}

// code is the exit code of an error.
func (a *app) code(err error) int {
	var problems config.Problems
	var e *exit
	switch {
	case errors.As(err, &e):
		return e.code
	case errors.As(err, &problems), strings.HasPrefix(err.Error(), "unknown command"), a.parsing:
		return exitBadInput
	}
	return exitFailed
}

// app is what all commands share.
type app struct {
	in          io.Reader
	out, errOut io.Writer

	configFile, address, namespace string
	json                           bool
	// lines is what a person types, read line by line.
	lines *bufio.Reader
	// parsing: cobra is still reading flags and arguments, so an error is the caller's.
	parsing bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:     "rekey",
		Version: version.String(),
		Short:   "Rotate API keys without downtime",
		Long: `rekey replaces API keys without one failed request: it makes the new key, stores it, proves it, publishes it, keeps both
keys alive for a grace period, and revokes the old one.

To try it without any configuration:  rekey demo  (from a checkout: go run ./starter demo)

` + exitCodes,
		SilenceUsage: true, SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) { a.parsing = false },
	}
	a.parsing = true
	flags := root.PersistentFlags()
	flags.StringVar(&a.configFile, "config", config.DefaultFile, "the `file` that lists providers, stores and keys")
	flags.StringVar(&a.address, "address", "", "`host:port` of Temporal (default from TEMPORAL_ADDRESS or the Temporal config file)")
	flags.StringVar(&a.namespace, "namespace", "", "Temporal `namespace` (default from TEMPORAL_NAMESPACE or the Temporal config file)")
	flags.BoolVar(&a.json, "json", false, "print one JSON object instead of text; an error is a JSON object on standard error, with error and exit_code")
	root.AddCommand(a.demo(), a.rotate(), a.status(), a.supply(), a.doctor(), a.plan(), a.apply(), a.prune(), a.emergency(), a.stores(), a.inbox(), a.explain())
	root.AddCommand(a.decisions()...)
	a.complete(root)
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	return root
}

// config reads rekey.yaml.
func (a *app) config() (*config.Config, error) { return config.Load(a.configFile) }

// key reads rekey.yaml and finds one key of it.
func (a *app) key(name string) (*config.Config, rotation.Key, error) {
	c, err := a.config()
	if err != nil {
		return nil, rotation.Key{}, err
	}
	k, ok := c.Key(name)
	if !ok {
		var names []string
		for _, o := range c.Keys {
			names = append(names, o.Name)
		}
		return nil, k, badInput("%s has no key %q; it has %s", a.configFile, name, strings.Join(names, ", "))
	}
	return c, k, nil
}

// dial connects to Temporal as the environment and the flags say.
func (a *app) dial(ctx context.Context) (client.Client, string, error) {
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, "", badInput("the Temporal settings of the environment cannot be read: %v", err)
	}
	if a.address != "" {
		options.HostPort = a.address
	}
	if a.namespace != "" {
		options.Namespace = a.namespace
	}
	if options.Namespace == "" {
		options.Namespace = client.DefaultNamespace
	}
	if options.HostPort == "" {
		options.HostPort = client.DefaultHostPort
	}
	for name, value := range map[string]string{"Temporal's address": options.HostPort, "Temporal's namespace": options.Namespace} {
		if err := keyless.Setting(name, value); err != nil {
			return nil, "", &exit{exitBadInput, err}
		}
	}
	options.Logger = silent
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, "", fmt.Errorf("Temporal does not answer on %s. Start it, or name another one with --address or TEMPORAL_ADDRESS. `rekey-worker --embedded` brings its own", options.HostPort)
	}
	return c, options.Namespace, nil
}

// confirm asks a person to type a word.
func (a *app) confirm(question, want string) bool {
	fmt.Fprint(a.errOut, question)
	if a.lines == nil {
		a.lines = bufio.NewReader(a.in)
	}
	answer, err := a.lines.ReadString('\n')
	return (err == nil || errors.Is(err, io.EOF)) && strings.TrimSpace(answer) == want
}

// isTerminal reports whether out is a screen that a person watches.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// currentUser is the claim of who decides, where no flag says it.
func currentUser() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// silent drops the SDK's log lines: what matters comes back as an error.
var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
