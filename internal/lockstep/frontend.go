package lockstep

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"google.golang.org/grpc"

	"go.temporal.io/api/workflowservice/v1"
)

const (
	namespace = "lockstep"
	taskQueue = "lockstep"
)

// Options are what all runs of a Frontend share. The zero value will do.
type Options struct {
	// SuggestContinueAsNewAfter makes workflow tasks suggest continue-as-new from this many events on; 0 never does.
	SuggestContinueAsNewAfter int
	// Details asks for the workflow's current details along with every workflow task; see Done.Details. That is cheaper
	// than to ask in between, with Run.Details.
	Details bool
	// Workers is how many workers there are, 2 unless it says otherwise. Runs begin at one after the other. The SDK's
	// worker polls no more than a thousand times a second, which counts where every task is to be replayed.
	Workers int
	// Patience is how long, in real time, a workflow task may take before the test fails; 0 is a minute.
	Patience time.Duration
	// Logger gets what workflows log, which replays leave out; nil keeps silent. It is used by one goroutine at a time, while
	// Task runs.
	Logger log.Logger
	// Worker is what the workers are made with; what lockstep needs is set on top of it.
	Worker worker.Options
}

// Frontend plays Temporal's frontend for a few workers in memory. It is used by one goroutine, the test's.
type Frontend struct {
	t        testing.TB
	options  Options
	register func(worker.WorkflowRegistry)
	workers  []*host
	seed     string
	runs     int
	tokens   int
	answers  chan answer
	// done is closed when the test is over.
	done chan struct{}
	// logger: what goes wrong is what Task returns.
	logger log.Logger
	// held is the answer to the last workflow task, not yet replied to: the next task can travel with the reply.
	held *held
	// current is the task that a worker has now, by which it can ask for the whole history.
	mu      sync.Mutex
	current *workflowservice.PollWorkflowTaskQueueResponse
	whole   *Run
	strange []string
}

// host is one worker with its queues.
type host struct {
	f        *Frontend
	identity string
	normal   chan *workflowservice.PollWorkflowTaskQueueResponse
	sticky   chan *workflowservice.PollWorkflowTaskQueueResponse
	worker   worker.Worker
	client   client.Client
}

type held struct {
	run   *Run
	host  *host
	reset int64
	reply chan<- reply
}

var (
	dataConverter    = converter.GetDefaultDataConverter()
	failureConverter = temporal.GetDefaultFailureConverter()
)

// seeds counts the frontends of each test, so that two of one test never share a run ID: the SDK's cache of workflows
// belongs to the process.
var seeds = struct {
	sync.Mutex
	count map[string]int
}{count: map[string]int{}}

// New starts workers that know what register registers, and stops them when the test ends.
func New(t testing.TB, register func(worker.WorkflowRegistry), options Options) *Frontend {
	t.Helper()
	if options.Patience == 0 {
		options.Patience = time.Minute
	}
	if options.Workers == 0 {
		options.Workers = 2
	}
	if options.Logger == nil {
		options.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	}
	f := &Frontend{t: t, options: options, register: register, answers: make(chan answer), done: make(chan struct{}), logger: options.Logger}
	seeds.Lock()
	f.seed = fmt.Sprintf("%s#%d", t.Name(), seeds.count[t.Name()])
	seeds.count[t.Name()]++
	seeds.Unlock()
	t.Cleanup(f.stop)
	for i := range options.Workers {
		f.workers = append(f.workers, f.host(fmt.Sprintf("lockstep-%d", i+1)))
	}
	return f
}

// host starts one worker. Its calls never reach a network: the innermost interceptor of its client answers them.
func (f *Frontend) host(identity string) *host {
	f.t.Helper()
	h := &host{
		f: f, identity: identity,
		normal: make(chan *workflowservice.PollWorkflowTaskQueueResponse),
		sticky: make(chan *workflowservice.PollWorkflowTaskQueueResponse),
	}
	c, err := client.NewLazyClient(client.Options{
		HostPort: "passthrough:///lockstep", Namespace: namespace, Identity: identity,
		Logger:                  f.logger,
		WorkerHeartbeatInterval: -1,
		ConnectionOptions: client.ConnectionOptions{
			GrpcCompression: &client.GrpcCompressionNone{},
			DialOptions:     []grpc.DialOption{grpc.WithChainUnaryInterceptor(h.intercept)},
		},
	})
	if err != nil {
		f.t.Fatal("lockstep:", err)
	}
	o := f.options.Worker
	o.Identity = identity
	o.LocalActivityWorkerOnly, o.DisableEagerActivities = true, true
	// One poller for each of the two queues.
	o.MaxConcurrentWorkflowTaskPollers = 2
	if o.DeadlockDetectionTimeout == 0 {
		// A busy machine is not a deadlock.
		o.DeadlockDetectionTimeout = f.options.Patience / 2
	}
	h.client, h.worker = c, worker.New(c, taskQueue, o)
	f.register(h.worker)
	if err := h.worker.Start(); err != nil {
		f.t.Fatal("lockstep: the worker does not start:", err)
	}
	return h
}

func (f *Frontend) stop() {
	f.release()
	// A worker that still waits for a reply would hold its cache, and never stop.
	close(f.done)
	for _, h := range f.workers {
		h.worker.Stop()
		h.client.Close()
	}
}

// release replies to the last workflow task, so that the worker is done with it.
func (f *Frontend) release() {
	if f.held == nil {
		return
	}
	f.held.reply <- reply{completed: &workflowservice.RespondWorkflowTaskCompletedResponse{ResetHistoryEventId: f.held.reset}}
	f.held = nil
}

// newID makes IDs that are the same whenever the same test does the same things.
func (f *Frontend) newID() string {
	f.runs++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", f.seed, f.runs))
	id, _ := uuid.FromBytes(sum[:16])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

func (f *Frontend) token() []byte {
	f.tokens++
	return fmt.Appendf(nil, "%d", f.tokens)
}
