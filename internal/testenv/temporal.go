package testenv

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/workflows"
)

// TemporalOptions say which Temporal a test has.
type TemporalOptions struct {
	// Own is a server for this test alone, in whose default namespace it works; nil: a namespace of its own on the server
	// that the tests of a package share.
	Own *devserver.Options
	// Dial changes how the client connects.
	Dial func(*sdkclient.Options)
}

// Temporal is a namespace of an embedded server, and a client in it.
type Temporal struct {
	Client    sdkclient.Client
	Namespace string

	server *devserver.Server
	// own is nil for the shared server.
	own *devserver.Options
}

// StartTemporal starts a Temporal; it ends with the test.
func StartTemporal(t testing.TB, o TemporalOptions) *Temporal {
	t.Helper()
	x, err := openTemporal(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.close)
	return x
}

var namespaces atomic.Int64

func openTemporal(o TemporalOptions) (x *Temporal, err error) {
	ctx := context.Background()
	x = &Temporal{}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	if o.Own != nil {
		own := *o.Own
		own.SearchAttributes = workflows.SearchAttributes()
		if x.server, err = devserver.Start(ctx, own); err != nil {
			return x, err
		}
		x.own, x.Namespace = &own, x.server.Namespace()
	} else {
		if x.server, err = shared.get(); err != nil {
			return x, err
		}
		x.Namespace = fmt.Sprintf("test-%d", namespaces.Add(1))
		if err = x.server.AddNamespace(ctx, x.Namespace, workflows.SearchAttributes()); err != nil {
			return x, err
		}
	}
	dial := x.server.ClientOptions()
	dial.Namespace, dial.Logger, dial.Identity = x.Namespace, Silent, "test"
	if o.Dial != nil {
		o.Dial(&dial)
	}
	x.Client, err = sdkclient.DialContext(ctx, dial)
	return x, err
}

// Address is that of the server.
func (x *Temporal) Address() string { return x.server.HostPort() }

// UIURL is where the web UI is, if the options of the server ask for one.
func (x *Temporal) UIURL() string { return x.server.UIURL() }

// RestartServer stops the server, which must be the test's own and on a file, and starts it again on the same port.
func (x *Temporal) RestartServer() error {
	x.own.Port = x.server.Port()
	if err := x.server.Stop(); err != nil {
		return err
	}
	x.server = nil
	again, err := devserver.Start(context.Background(), *x.own)
	x.server = again
	return err
}

func (x *Temporal) close() {
	if x.Client != nil {
		x.Client.Close()
	}
	if x.own != nil && x.server != nil {
		_ = x.server.Stop()
	}
}

// Silent drops the SDK's log lines.
var Silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))

// shared is the server that the tests of a package share. It is started when the first of them needs it.
var shared sharedServer

type sharedServer struct {
	mu     sync.Mutex
	server *devserver.Server
	// file is empty for a server in memory.
	file string
}

func (s *sharedServer) get() (*devserver.Server, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.server == nil {
		s.server, err = devserver.Start(context.Background(), devserver.Options{DatabaseFile: s.file})
	}
	return s.server, err
}

func (s *sharedServer) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		_ = s.server.Stop()
		s.server = nil
	}
}

// MainOptions are how the tests of a package run.
type MainOptions struct {
	// Parallel is how many tests run at once; 0: as go test says, one for each core. Tests that mostly wait want more.
	Parallel int
	// File: the shared server keeps its state in a file, which Written reads.
	File bool
}

// Main is what TestMain exits with: it runs the tests of a package, or the worker process that one of them has started.
func Main(m *testing.M, o MainOptions) (code int) {
	RunWorker()
	flag.Parse()
	if err := prepare(o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if o.File {
		dir, err := os.MkdirTemp("", "rekey-temporal-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		shared.file = filepath.Join(dir, "temporal.db")
	}
	defer shared.stop()
	return m.Run()
}

// RunWorker runs the worker process that a test has started, if this is one; then it does not return. A TestMain that has
// something to do before Main calls it first.
func RunWorker() {
	if os.Getenv(envConfig) == "" {
		return
	}
	if err := workerProcess(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func prepare(o MainOptions) error {
	if o.Parallel == 0 {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(o.Parallel))
}

// Written is what the shared server has written into its files so far, by file.
func Written() (map[string][]byte, error) {
	texts := map[string][]byte{}
	for _, file := range []string{shared.file, shared.file + "-wal"} {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		texts[file] = text
	}
	return texts, nil
}
