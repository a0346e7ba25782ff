// Package trigger is the HTTP listener through which others ask for rotations: a webhook of your own, GitHub's secret
// scanning, Google Secret Manager. It checks who asks and what for, and hands the request to Temporal, which does it. It
// cannot approve anything, nor ask for revoke-first: there is no field for either.
package triggers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/time/rate"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/secretfile"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

const (
	// maxBody is far more than any sender's message about one key.
	maxBody   = 256 << 10
	maxHeader = 16 << 10
	// patience is how long a sender waits for Temporal to take a delivery, queueing how long for its turn before;
	// together less than ten seconds, after which GitHub and Pub/Sub give up.
	patience = 5 * time.Second
	queueing = 3 * time.Second
	// floods is how many requests a second are looked at at all, floodNews how often the log says that there are more.
	floods    = 100
	floodNews = time.Minute
	// maxBodies is how many bodies are read at once; bodyTime is how long one may take.
	maxBodies = 32
	bodyTime  = 5 * time.Second
)

// Options set a Listener up.
type Options struct {
	Config config.Triggers
	// Keys are the keys of rekey.yaml.
	Keys []rotation.Key
	// Start returns a delivery to Temporal; taken is false if Temporal has it already. An error makes the sender try again.
	Start func(context.Context, workflows.TriggerInput) (taken bool, err error)
	// Fingerprints are those by which stores may know a value that somebody found.
	Fingerprints func(secret.Value) []string
	// Log gets a line for every delivery and every refusal, without their bodies.
	Log *slog.Logger
	// Now is the clock of replay windows; nil means the real one.
	Now func() time.Time
	// Transport reaches Google's certificates; nil means the standard one.
	Transport http.RoundTripper
}

// Listener answers deliveries until it is stopped.
type Listener struct {
	server *http.Server
	addr   net.Addr
	done   chan error
}

// Listen opens the address and begins to answer. What is wrong with a file of secrets comes back as config.Problems.
func Listen(o Options) (*Listener, error) {
	h, err := newHandler(o)
	if err != nil {
		return nil, err
	}
	at, err := net.Listen("tcp", o.Config.Listen)
	if err != nil {
		return nil, fmt.Errorf("the listener for triggers cannot open %s; is another worker there already? %w", o.Config.Listen, err)
	}
	l := &Listener{addr: at.Addr(), done: make(chan error, 1), server: &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 20 * time.Second, IdleTimeout: 5 * time.Second,
		ConnContext: within, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}}
	go func() { l.done <- l.server.Serve(&limitedListener{Listener: at, limit: maxConnections}) }()
	return l, nil
}

// Addr is where it listens.
func (l *Listener) Addr() net.Addr { return l.addr }

// Stop takes no new delivery and waits, until ctx is done, for those that are being answered.
func (l *Listener) Stop(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	if err != nil {
		_ = l.server.Close()
	}
	if served := <-l.done; !errors.Is(served, http.ErrServerClosed) {
		return errors.Join(err, served)
	}
	return err
}

// Check returns what is wrong with the files of secrets, without listening.
func Check(t config.Triggers) error {
	var problems config.Problems
	for _, s := range t.Sources {
		if s.SecretFile != "" {
			if _, err := readSecret(s.SecretFile); err != nil {
				problems = append(problems, config.Problem{File: s.SecretFile, Message: fmt.Sprintf("triggers.sources.%s.secret_file: %s", s.Name, err)})
			}
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}

// readSecret reads a shared secret, which only the file's owner may be able to read.
func readSecret(name string) (secret.Value, error) { return secretfile.Read(name, secretfile.Make) }

func newHandler(o Options) (*handler, error) {
	if err := Check(o.Config); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &handler{Options: o, flood: rate.NewLimiter(floods, 2*floods), sources: map[string]*source{}}
	secrets := map[string]string{}
	for _, s := range o.Config.Sources {
		g := &source{name: s.Name, limit: rate.NewLimiter(rate.Limit(o.Config.Rate), burst(o.Config.Rate))}
		if s.Type == config.GoogleSecretRotate {
			g.sender = newPush(s, o)
		} else {
			shared, err := readSecret(s.SecretFile)
			if err != nil {
				return nil, err
			}
			if other, taken := secrets[shared.Fingerprint()]; taken {
				return nil, config.Problems{{File: s.SecretFile, Message: fmt.Sprintf("the sources %s and %s have the same secret; give each one of its own", other, s.Name)}}
			}
			secrets[shared.Fingerprint()] = s.Name
			g.sender = newSigned(s, o, shared)
		}
		h.sources[s.Name] = g
	}
	return h, nil
}

// burst lets a source report a handful of keys in one moment.
func burst(perSecond float64) int { return max(50, int(5*perSecond)) }
