// Package e2e tests rekey end to end: the real Temporal server, worker processes that are killed, simulated clouds.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"

	"log/slog"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"

	sdklog "go.temporal.io/sdk/log"
)

// The environment of a worker process.
const (
	envConfig    = "REKEY_E2E_CONFIG"
	envAddress   = "REKEY_E2E_ADDRESS"
	envNamespace = "REKEY_E2E_NAMESPACE"
	// envKill is "<activity>/before" or "<activity>/after": where the process kills itself with -9, once.
	envKill = "REKEY_E2E_KILL"
	// envKilled is the file that remembers that it did.
	envKilled = "REKEY_E2E_KILLED"
	// envSticky "0" makes every workflow task replay from the beginning of the history.
	envSticky = "REKEY_STICKY_CACHE"
)

// server is the Temporal server that all tests share, each in a namespace of its own. Its state is in a file, so
// that the search for secrets can read it.
var (
	server   *devserver.Server
	database string
)

func TestMain(m *testing.M) {
	if os.Getenv(envConfig) != "" {
		if err := workerProcess(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// The tests mostly wait for processes to be found dead; more of them at once than there are cores.
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(withServer(m))
}

func withServer(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rekey-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	database = filepath.Join(dir, "temporal.db")
	if server, err = devserver.Start(context.Background(), devserver.Options{DatabaseFile: database}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Stop() }()
	return m.Run()
}

// workerProcess is a worker as `worker` runs it, with a killer inside.
func workerProcess() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Getenv(envSticky) == "0" {
		sdkworker.SetStickyWorkflowCacheSize(0)
	}
	cfg, err := config.Load(os.Getenv(envConfig))
	if err != nil {
		return err
	}
	logs := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	acts, err := adapters.Open(ctx, cfg, logs)
	if err != nil {
		return err
	}
	c, err := client.DialContext(ctx, client.Options{HostPort: os.Getenv(envAddress), Namespace: os.Getenv(envNamespace), Identity: "e2e worker", Logger: sdklog.NewStructuredLogger(logs)})
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := engine.Start(ctx, c, os.Getenv(envNamespace), acts, engine.Options{Interceptors: []interceptor.WorkerInterceptor{&killer{}}})
	if err != nil {
		return err
	}
	<-ctx.Done()
	w.Stop()
	return nil
}

// killer ends the process as a power cut would, at a chosen moment.
type killer struct {
	interceptor.WorkerInterceptorBase
}

func (k *killer) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &killing{interceptor.ActivityInboundInterceptorBase{Next: next}}
}

type killing struct {
	interceptor.ActivityInboundInterceptorBase
}

func (k *killing) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	name := activity.GetInfo(ctx).ActivityType.Name
	killAt(name + "/before")
	out, err := k.Next.ExecuteActivity(ctx, in)
	killAt(name + "/after")
	return out, err
}

// killAt kills the process if this is the moment, and no process before it was killed there.
func killAt(moment string) {
	if os.Getenv(envKill) != moment {
		return
	}
	f, err := os.OpenFile(os.Getenv(envKilled), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = f.Close()
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}
