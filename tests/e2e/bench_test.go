package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// noop is the floor: a workflow with as many activities as a rotation has, which do nothing, on one task queue with
// them as a rotation is.
func noop(ctx workflow.Context, activities int) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range activities {
		if err := workflow.ExecuteActivity(ctx, nothing).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func nothing(context.Context) error { return nil }

// benchmarked is the number of keys that a benchmark rotates, each in turn.
const benchmarked = 16

// bodies measures how long activities of each workflow were at work: what a rotation spends on the providers and stores
// (here simulated) and on what rekey does with their answers, and none of it on Temporal.
type bodies struct {
	interceptor.WorkerInterceptorBase
	mu   sync.Mutex
	busy map[string]*busy
}

// busy counts the time in which at least one activity ran.
type busy struct {
	running int
	since   time.Time
	total   time.Duration
}

func (x *bodies) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &body{interceptor.ActivityInboundInterceptorBase{Next: next}, x}
}

type body struct {
	interceptor.ActivityInboundInterceptorBase
	all *bodies
}

func (x *body) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	id := activity.GetInfo(ctx).WorkflowExecution.ID
	x.all.begin(id)
	defer x.all.end(id)
	return x.Next.ExecuteActivity(ctx, in)
}

func (x *bodies) begin(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy[id] == nil {
		x.busy[id] = &busy{}
	}
	b := x.busy[id]
	if b.running++; b.running == 1 {
		b.since = time.Now()
	}
}

func (x *bodies) end(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.busy[id]
	if b.running--; b.running == 0 {
		b.total += time.Since(b.since)
	}
}

// take returns the time of a workflow that has ended, and forgets it.
func (x *bodies) take(id string) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.busy[id]
	delete(x.busy, id)
	if b == nil {
		return 0
	}
	return b.total
}

// bench is a simulated cloud with Google keys, which Google makes (small ones: it is not RSA that is measured), and workers
// in this process, on a server in memory.
type bench struct {
	*testenv.Env
	keys   []rotation.Key
	bodies *bodies
}

func newBench(b *testing.B) *bench {
	b.Helper()
	var names []string
	for i := range benchmarked {
		names = append(names, fmt.Sprintf("key-%d", i))
	}
	e := testenv.Start(b, testenv.Options{
		TemporalOptions: testenv.TemporalOptions{Own: &devserver.Options{}},
		SimOptions: testenv.SimOptions{Keys: testenv.Keys(names...), Scenario: scenario.Options{
			Policy: []string{"grace: 0s", "soak: 0s", "quiet: 0s"}, RequestTimeout: "2s", Mode: "create", KeyBits: 1024,
		}},
	})
	inside := &bodies{busy: map[string]*busy{}}
	e.StartWorkers(inside)
	floor := sdkworker.New(e.Client, "floor", sdkworker.Options{})
	floor.RegisterWorkflow(noop)
	floor.RegisterActivity(nothing)
	if err := floor.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(floor.Stop)
	return &bench{Env: e, keys: e.Config.Keys, bodies: inside}
}

func (x *bench) rotate(b *testing.B, k rotation.Key) sdkclient.WorkflowRun {
	run, err := x.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{
		ID: workflows.ID(k.Name), TaskQueue: workflows.ProviderTaskQueue(k.Provider), TypedSearchAttributes: workflows.StartAttributes(k, rotation.Manual),
	}, workflows.RotateKey, workflows.Input{Key: k, Reason: rotation.Manual})
	if err != nil {
		b.Error(err)
		return nil
	}
	var res rotation.Result
	if err := client.New(x.Client).WaitRun(context.Background(), run.GetID(), run.GetRunID(), &res); err != nil || res.Phase != rotation.Completed {
		b.Errorf("%v: %+v", err, res)
	}
	return run
}

func (x *bench) floor(b *testing.B, activities int) sdkclient.WorkflowRun {
	run, err := x.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{TaskQueue: "floor"}, noop, activities)
	if err == nil {
		err = client.New(x.Client).WaitRun(context.Background(), run.GetID(), run.GetRunID(), nil)
	}
	if err != nil {
		b.Error(err)
	}
	return run
}

// closed is when Temporal closed a workflow, by its own account.
func (x *bench) closed(b *testing.B, run sdkclient.WorkflowRun) time.Time {
	d, err := x.Client.DescribeWorkflowExecution(context.Background(), run.GetID(), run.GetRunID())
	if err != nil {
		b.Error(err)
	}
	return d.GetWorkflowExecutionInfo().GetCloseTime().AsTime()
}

// count reads how many activities and events a rotation had.
func (x *bench) count(b *testing.B, run sdkclient.WorkflowRun) (activities, events int) {
	iter := x.Client.GetWorkflowHistory(context.Background(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			b.Fatal(err)
		}
		events++
		if e.GetEventType() == enumspb.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED {
			activities++
		}
	}
	return activities, events
}

// measured is what one kind of workflow took: run one after another, and all at once.
type measured struct {
	latency, cpu, batch samples
	// late counts the waits that lasted long after the end of their workflow.
	late int
}

// late is when a wait is taken to have lasted until the client asked again, because the news was lost (internal/devserver
// has the reason and the interval).
const late = 500 * time.Millisecond

type samples []time.Duration

// median is in milliseconds.
func (s samples) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]).Seconds() * 1000 / 2
}

// cpuTime is what this process, with server, workers and cloud, has used of the processors.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// alone measures one workflow with nothing beside it.
func (x *bench) alone(b *testing.B, m *measured, one func() sdkclient.WorkflowRun) time.Duration {
	begin, used := time.Now(), cpuTime(b)
	run := one()
	took := time.Since(begin)
	m.latency, m.cpu = append(m.latency, took), append(m.cpu, cpuTime(b)-used)
	m.noteLate(begin.Add(took), x.closed(b, run))
	return took
}

// together measures workflows of all keys at once, until the last of them is closed: with so many waits, there is often
// one that lasts longer than its workflow.
func (x *bench) together(b *testing.B, m *measured, one func(rotation.Key) sdkclient.WorkflowRun) {
	runs, told := make([]sdkclient.WorkflowRun, len(x.keys)), make([]time.Time, len(x.keys))
	begin := time.Now()
	var all sync.WaitGroup
	for i, k := range x.keys {
		all.Go(func() { runs[i], told[i] = one(k), time.Now() })
	}
	all.Wait()
	last := begin
	for i, run := range runs {
		at := x.closed(b, run)
		m.noteLate(told[i], at)
		if at.After(last) {
			last = at
		}
	}
	m.batch = append(m.batch, last.Sub(begin))
}

func (m *measured) noteLate(told, closed time.Time) {
	if told.Sub(closed) > late {
		m.late++
	}
}

// BenchmarkRotation measures a rotation with no grace period on a cloud without delays beside the floor, in one run.
// It prints medians, because now and then a wait lasts long after the end of its workflow; late-waits counts those. What
// a rotation spends in its activities (ms/api: the simulated cloud, and rekey's own calls to it) is told from the rest,
// which is what the engine costs; the engine-ratio is that rest beside the floor.
func BenchmarkRotation(b *testing.B) {
	x := newBench(b)
	run := x.rotate(b, x.keys[0])
	activities, events := x.count(b, run)
	x.bodies.take(run.GetID())
	var rotations, floors measured
	var api, engine samples
	for b.Loop() {
		// Google makes its keys itself.
		if err := x.IAM.MakeAhead(2 * len(x.keys)); err != nil {
			b.Fatal(err)
		}
		// In turn, so that whatever else the machine does disturbs both alike.
		for _, k := range x.keys {
			all := x.alone(b, &rotations, func() sdkclient.WorkflowRun { return x.rotate(b, k) })
			inside := x.bodies.take(workflows.ID(k.Name))
			api, engine = append(api, inside), append(engine, all-inside)
			x.alone(b, &floors, func() sdkclient.WorkflowRun { return x.floor(b, activities) })
		}
		x.together(b, &rotations, func(k rotation.Key) sdkclient.WorkflowRun {
			defer x.bodies.take(workflows.ID(k.Name))
			return x.rotate(b, k)
		})
		x.together(b, &floors, func(rotation.Key) sdkclient.WorkflowRun { return x.floor(b, activities) })
	}
	b.ReportMetric(float64(activities), "activities")
	b.ReportMetric(float64(events), "events")
	b.ReportMetric(rotations.latency.median(), "ms/rotation")
	b.ReportMetric(floors.latency.median(), "ms/floor")
	b.ReportMetric(api.median(), "ms/api")
	b.ReportMetric(engine.median()/floors.latency.median(), "engine-ratio")
	b.ReportMetric(rotations.cpu.median(), "cpu-ms/rotation")
	b.ReportMetric(floors.cpu.median(), "cpu-ms/floor")
	b.ReportMetric(benchmarked*1000/rotations.batch.median(), "rotations/s")
	b.ReportMetric(benchmarked*1000/floors.batch.median(), "floors/s")
	b.ReportMetric(floors.batch.median()/rotations.batch.median(), "throughput-ratio")
	b.ReportMetric(float64(rotations.late+floors.late), "late-waits")
}

// BenchmarkAlone runs only rotations, or only the floor, one after another: for the profiler, which cannot tell them
// apart in one process.
func BenchmarkAlone(b *testing.B) {
	b.Run("rotation", func(b *testing.B) {
		x := newBench(b)
		for i := 0; b.Loop(); i++ {
			if i%len(x.keys) == 0 {
				if err := x.IAM.MakeAhead(len(x.keys)); err != nil {
					b.Fatal(err)
				}
			}
			x.rotate(b, x.keys[i%len(x.keys)])
		}
	})
	b.Run("floor", func(b *testing.B) {
		x := newBench(b)
		activities, _ := x.count(b, x.rotate(b, x.keys[0]))
		for b.Loop() {
			x.floor(b, activities)
		}
	})
}
