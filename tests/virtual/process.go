package virtual

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/sdk/interceptor"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
)

// The environment of a worker process.
const (
	envWorld  = "REKEY_TEST_WORLD"
	envWorker = "REKEY_TEST_WORKER"
)

// sticky is after which time a workflow task goes to another worker than the one that has the workflow in its cache; the
// SDK's 5 s would be most of what it takes to go on after a kill.
const sticky = 200 * time.Millisecond

// Main is what TestMain exits with: it runs the tests of a package, or the worker process that a World has started.
func Main(m *testing.M) int {
	if url := os.Getenv(envWorld); url != "" {
		if err := work(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return m.Run()
}

// home is what a worker process needs to know of its world.
type home struct {
	YAML, HostPort, Namespace string
	Now                       time.Time
}

// moment is what a worker process tells its world: an activity begins, or has ended.
type moment struct {
	Worker    int
	Activity  string
	Scheduled time.Time
}

// listen answers the worker processes of the world.
func (w *World) listen(hostPort, namespace string) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /home", func(rw http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(rw).Encode(home{YAML: w.YAML(), HostPort: hostPort, Namespace: namespace, Now: w.Now()})
	})
	mux.HandleFunc("POST /begin", answer(w, func(_ context.Context, m moment) { w.begin(m) }))
	mux.HandleFunc("POST /end", answer(w, func(_ context.Context, m moment) { w.end(m) }))
	mux.HandleFunc("POST /notify", answer(w, w.notified))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }()
	w.stops = append(w.stops, func() { _ = server.Close() })
	w.url = "http://" + listener.Addr().String()
	return nil
}

// answer does what a worker process tells, and answers with the world's time.
func answer[T any](w *World, do func(context.Context, T)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		var told T
		if err := json.NewDecoder(r.Body).Decode(&told); err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		do(r.Context(), told)
		_ = json.NewEncoder(rw).Encode(w.Now())
	}
}

// process keeps a worker process running: when it dies, another one is started.
type process struct {
	url  string
	n    int
	gone chan struct{}

	logs testlog.Buffer

	mu     sync.Mutex
	cmd    *exec.Cmd
	ending bool
}

func (w *World) startProcess(n int) {
	p := &process{url: w.url, n: n, gone: make(chan struct{})}
	w.processes = append(w.processes, p)
	w.stops = append(w.stops, p.stop)
	go p.run()
}

func (p *process) run() {
	defer close(p.gone)
	for {
		cmd := exec.CommandContext(context.Background(), os.Args[0]) //nolint:gosec // the test binary itself
		cmd.Env = append(os.Environ(), envWorld+"="+p.url, envWorker+"="+strconv.Itoa(p.n))
		cmd.Stdout, cmd.Stderr = &p.logs, &p.logs
		// It ends when the other end of this is closed, also because the test was killed.
		held, err := cmd.StdinPipe()
		if err != nil {
			fmt.Fprintln(&p.logs, err)
			return
		}
		p.mu.Lock()
		if p.ending {
			p.mu.Unlock()
			return
		}
		err = cmd.Start()
		p.cmd = cmd
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		_ = held.Close()
		// One that ends by itself has said why. Another one is started all the same, but not in a tight circle.
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() >= 0 {
			fmt.Fprintf(&p.logs, "the worker ended by itself: %v\n", err)
			time.Sleep(time.Second)
		}
	}
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
	}
}

func (p *process) stop() {
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	p.kill()
	<-p.gone
}

// Logs are what the workers have logged so far.
func (w *World) Logs() string {
	all := w.logs.String()
	for _, p := range w.processes {
		all += p.logs.String()
	}
	return all
}

// KillWorker ends the worker process that began an activity last, as a power cut would; another one is started. It reports
// whether there is one: a world whose worker is in this process has none.
func (w *World) KillWorker() bool {
	w.mu.Lock()
	n := w.last
	w.mu.Unlock()
	if n >= len(w.processes) {
		return false
	}
	w.processes[n].kill()
	return true
}

// there is the world as its worker process sees it.
type there struct {
	url   string
	n     int
	clock *clock
}

func (t *there) tell(ctx context.Context, what string, about any) error {
	body, err := json.Marshal(about)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var now time.Time
	if err := json.NewDecoder(resp.Body).Decode(&now); err != nil {
		return fmt.Errorf("the world does not answer to %s: %s", what, resp.Status)
	}
	t.clock.advance(now)
	return nil
}

func (t *there) begin(m moment) { m.Worker = t.n; _ = t.tell(context.Background(), "begin", m) }
func (t *there) end(m moment)   { m.Worker = t.n; _ = t.tell(context.Background(), "end", m) }

// Notify implements the channel.
func (t *there) Notify(ctx context.Context, n rotation.Notification) error {
	return t.tell(ctx, "notify", n)
}

// work is a worker as rekey-worker runs it, in the time of its world.
func work(url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0) // whoever started this process is gone
	}()
	n, err := strconv.Atoi(os.Getenv(envWorker))
	if err != nil {
		return err
	}
	resp, err := http.Get(url + "/home") //nolint:noctx // a loopback address of the test
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var h home
	if err := json.NewDecoder(resp.Body).Decode(&h); err != nil {
		return err
	}
	t := &there{url, n, newClock()}
	t.clock.advance(h.Now)
	cfg, err := config.Parse("rekey.yaml", []byte(h.YAML))
	if err != nil {
		return err
	}
	acts, err := adapters.Open(ctx, cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	acts.Now = t.clock.Now
	acts.Channels["team"] = t
	c, err := dial(ctx, h.HostPort, h.Namespace)
	if err != nil {
		return err
	}
	defer c.Close()
	running, err := engine.Start(ctx, c, h.Namespace, acts, engine.Options{Interceptors: []interceptor.WorkerInterceptor{&follow{hears: t}}, StickyTimeout: sticky})
	if err != nil {
		return err
	}
	<-ctx.Done()
	running.Stop()
	return nil
}
