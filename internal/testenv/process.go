package testenv

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	sdkworker "go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
)

// The environment of a worker process.
const (
	envConfig    = "REKEY_TEST_CONFIG"
	envAddress   = "REKEY_TEST_ADDRESS"
	envNamespace = "REKEY_TEST_NAMESPACE"
	// envKill are the moments at which the process kills itself with -9, each once: "<activity>/before" or
	// "<activity>/after", with commas between them.
	envKill = "REKEY_TEST_KILL"
	// envKilled is the folder that remembers where it did.
	envKilled = "REKEY_TEST_KILLED"
	// envPause are the activities before which the process waits, each once in all, until the test lets it go on.
	envPause = "REKEY_TEST_PAUSE"
	// envSticky "0" makes every workflow task replay from the beginning of the history.
	envSticky = "REKEY_STICKY_CACHE"
)

// stickyTimeout is after which time a workflow task goes to another worker than the one that has the workflow in its
// cache; the SDK's 5 s would be most of what it takes to go on after a kill.
const stickyTimeout = 200 * time.Millisecond

// process keeps one worker process running: when it dies, another one is started.
type process struct {
	e *Env
	ProcessOptions
	// dir has a file for each moment at which it killed itself, or waited.
	dir string

	logs testlog.Buffer
	// hold keeps the next one from starting.
	hold sync.Mutex

	mu     sync.Mutex
	cmd    *exec.Cmd
	ending bool
	// stopped counts the processes that ended by themselves because they were asked to.
	stopped int
	gone    chan struct{}
}

// ProcessOptions say what becomes of a worker process.
type ProcessOptions struct {
	// Kill are the moments at which it kills itself, each once: "<activity>/before" or "<activity>/after".
	Kill []string
	// Pause are the activities before which it waits, each once; see AwaitPaused and Resume.
	Pause []string
	// Environ is added to its environment.
	Environ []string
	// MayDie: it is no failure if it ends by itself, as a process does that gets no memory.
	MayDie bool
}

// StartWorkerProcess starts a worker in a process of its own, and another one whenever it dies. It kills itself once at
// each moment of kill.
func (e *Env) StartWorkerProcess(kill ...string) {
	e.Helper()
	e.StartProcess(ProcessOptions{Kill: kill})
}

// StartProcess is StartWorkerProcess with all options.
func (e *Env) StartProcess(o ProcessOptions) {
	e.Helper()
	p := &process{e: e, ProcessOptions: o, dir: filepath.Dir(e.File), gone: make(chan struct{})}
	e.mu.Lock()
	if before := e.process; before != nil {
		_, _ = p.logs.Write([]byte(before.logs.String()))
	}
	e.process = p
	e.mu.Unlock()
	go p.run()
}

// worker is the process that was started last.
func (e *Env) worker() *process {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.process
}

// StopWorkerProcess kills the worker process; no other one is started.
func (e *Env) StopWorkerProcess() {
	if p := e.worker(); p != nil {
		p.stop()
	}
}

// KillWorker ends the worker process as a power cut would; another one is started.
func (e *Env) KillWorker() {
	p := e.worker()
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Kill()
}

// TerminateWorker asks the worker process to stop, as a deployment does; another one is started when it has ended.
func (e *Env) TerminateWorker() {
	p := e.worker()
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
}

// AwaitStopping waits until so many worker processes have heard that they are to stop.
func (e *Env) AwaitStopping(n int) {
	e.Helper()
	e.Await("a worker that stops", func() bool { return strings.Count(e.Logs(), stopping) >= n })
}

// Stopped is how many worker processes have finished what they did and ended, because they were asked to.
func (e *Env) Stopped() int {
	p := e.worker()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stopped
}

// WorkerPID is the id of the worker process that runs now, or of the one that was the last.
func (e *Env) WorkerPID() int {
	p := e.worker()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// WithoutWorker kills the worker process and starts another one when something has happened.
func (e *Env) WithoutWorker(during func()) {
	p := e.worker()
	p.hold.Lock()
	defer p.hold.Unlock()
	e.KillWorker()
	during()
}

// AwaitWorkerProcess waits until the first process has been started.
func (e *Env) AwaitWorkerProcess() {
	e.Helper()
	p := e.worker()
	e.Await("a worker process", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.cmd != nil
	})
}

// Killed checks that the worker process has killed itself at each of its moments.
func (e *Env) Killed() {
	e.Helper()
	p := e.worker()
	for _, moment := range p.Kill {
		if _, err := os.Stat(killedFile(p.dir, moment)); err != nil {
			e.Errorf("nobody was killed at %s: the test proves nothing", moment)
		}
	}
}

// Logs are what the worker processes have logged so far.
func (e *Env) Logs() string { return e.worker().logs.String() }

func (p *process) run() {
	defer close(p.gone)
	for {
		cmd := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // the test binary itself
		cmd.Env = append(os.Environ(), envConfig+"="+p.e.File, envAddress+"="+p.e.Address(), envNamespace+"="+p.e.Namespace,
			envKill+"="+strings.Join(p.Kill, ","), envKilled+"="+p.dir, envPause+"="+strings.Join(p.Pause, ","))
		cmd.Env = append(cmd.Env, p.Environ...)
		cmd.Stdout, cmd.Stderr = &p.logs, &p.logs
		p.hold.Lock()
		p.hold.Unlock() //nolint:staticcheck // whoever holds it lets go of it when the worker may start
		p.mu.Lock()
		if p.ending {
			p.mu.Unlock()
			return
		}
		err := cmd.Start()
		p.cmd = cmd
		p.mu.Unlock()
		if err != nil {
			p.e.Errorf("the worker does not start: %v", err)
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		ending := p.ending
		if err == nil {
			p.stopped++
		}
		p.mu.Unlock()
		if ending {
			return
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 && !p.MayDie {
			p.e.Errorf("the worker ended by itself: %v\n%s", err, p.logs.String())
			return
		}
	}
}

func (p *process) stop() {
	p.mu.Lock()
	p.ending = true
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
	}
	p.mu.Unlock()
	<-p.gone
}

// workerProcess is a worker as rekey-worker runs it, with a killer inside.
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
	acts.Now = movable(os.Getenv(envKilled))
	namespace := os.Getenv(envNamespace)
	c, err := sdkclient.DialContext(ctx, sdkclient.Options{HostPort: os.Getenv(envAddress), Namespace: namespace, Identity: "test worker", Logger: sdklog.NewStructuredLogger(logs)})
	if err != nil {
		return err
	}
	defer c.Close()
	w, err := engine.Start(ctx, c, namespace, acts, engine.Options{Interceptors: []interceptor.WorkerInterceptor{&killer{}}, StickyTimeout: stickyTimeout})
	if err != nil {
		return err
	}
	<-ctx.Done()
	logs.Info(stopping)
	w.Stop()
	return nil
}

// stopping is what a worker process logs when it has been asked to stop.
const stopping = "test worker: stopping"

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
	pauseBefore(name)
	out, err := k.Next.ExecuteActivity(ctx, in)
	killAt(name + "/after")
	return out, err
}

// killAt kills the process if this is a moment for it, and no process before it was killed there.
func killAt(moment string) {
	if !slices.Contains(strings.Split(os.Getenv(envKill), ","), moment) {
		return
	}
	f, err := os.OpenFile(killedFile(os.Getenv(envKilled), moment), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_ = f.Close()
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal is on its way
}

func killedFile(dir, moment string) string {
	return filepath.Join(dir, "killed-"+strings.ReplaceAll(moment, "/", "-"))
}
