package manykeys

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// envKeys is how many keys the benchmarks rotate; without it they are skipped. envBacklog is how many scheduled
// rotations are under way when the one emergency comes.
const (
	envKeys    = "REKEY_BENCH_KEYS"
	envBacklog = "REKEY_BENCH_BACKLOG"
	// envRate is the provider's limit in steps a second; 50 if it is not set.
	envRate = "REKEY_BENCH_RATE"
)

func size(b *testing.B, env string, otherwise int) int {
	b.Helper()
	if os.Getenv(env) == "" {
		return otherwise
	}
	n, err := strconv.Atoi(os.Getenv(env))
	if err != nil || n < 1 {
		b.Fatalf("%s=%q is no number", env, os.Getenv(env))
	}
	return n
}

// noop is the floor: as many steps as an emergency has, which do nothing.
func noop(ctx workflow.Context, steps int) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range steps {
		if err := workflow.ExecuteActivity(ctx, nothing).Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func nothing(context.Context) error { return nil }

// floor is how long so many workflows take that do nothing in as many steps, so many at a time.
func (w *env) floor(count, steps, atOnce int, limit float64) time.Duration {
	w.Helper()
	floor := sdkworker.New(w.Client, "floor", sdkworker.Options{TaskQueueActivitiesPerSecond: limit, MaxConcurrentActivityExecutionSize: 20})
	floor.RegisterWorkflow(noop)
	floor.RegisterActivity(nothing)
	if err := floor.Start(); err != nil {
		w.Fatal(err)
	}
	defer floor.Stop()
	begin := time.Now()
	var all sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for range count {
		turns <- struct{}{}
		all.Go(func() {
			defer func() { <-turns }()
			run, err := w.Client.ExecuteWorkflow(context.Background(), sdkclient.StartWorkflowOptions{TaskQueue: "floor"}, noop, steps)
			if err == nil {
				err = client.New(w.Client).WaitRun(context.Background(), run.GetID(), run.GetRunID(), nil)
			}
			if err != nil {
				w.Error(err)
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}

// steps counts the steps of the key's latest rotation.
func (w *env) steps(k rotation.Key) int {
	w.Helper()
	n := 0
	iter := w.Client.GetWorkflowHistory(context.Background(), workflows.ID(k.Name), "", false, 0)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			w.Fatal(err)
		}
		if e.GetActivityTaskScheduledEventAttributes() != nil {
			n++
		}
	}
	return n
}

// BenchmarkEmergency raises one emergency over REKEY_BENCH_KEYS keys, beside the floor and, with a limit, beside what
// the limit alone would take.
func BenchmarkEmergency(b *testing.B) {
	keys := size(b, envKeys, 0)
	if keys == 0 {
		b.Skipf("set %s, like %s=1000", envKeys, envKeys)
	}
	const atOnce = workflows.FleetConcurrency
	for _, rate := range []float64{0, float64(size(b, envRate, 50))} {
		var lines []string
		name := "without a limit"
		if rate > 0 {
			name, lines = fmt.Sprintf("%.0f a second", rate), []string{fmt.Sprintf("rate: %.0f/s", rate)}
		}
		b.Run(name, func(b *testing.B) {
			w := newEnv(b, keys, lines)
			for range b.N {
				b.ResetTimer()
				f := w.emergency(fmt.Sprintf("bench-%d", b.N), atOnce, w.keys...)
				took := b.Elapsed()
				b.StopTimer()
				if !f.Complete() {
					b.Fatalf("%s", f.Outcome)
				}
				steps := w.steps(w.keys[0])
				floor := w.floor(keys, steps, atOnce, 0)
				least := floor
				if rate > 0 {
					least = max(least, time.Duration(float64(keys*steps)/rate*float64(time.Second)))
				}
				b.ReportMetric(took.Seconds(), "s")
				b.ReportMetric(floor.Seconds(), "s-floor")
				b.ReportMetric(float64(steps), "steps")
				b.ReportMetric(float64(keys*steps)/took.Seconds(), "steps/s")
				b.ReportMetric(took.Seconds()/least.Seconds(), "ratio")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// BenchmarkEmergencyUnderABacklog raises an emergency of one key alone, and again while REKEY_BENCH_BACKLOG scheduled
// rotations are under way.
func BenchmarkEmergencyUnderABacklog(b *testing.B) {
	backlog := size(b, envBacklog, 0)
	if backlog == 0 {
		b.Skipf("set %s, like %s=5000", envBacklog, envBacklog)
	}
	w := newEnv(b, backlog+10, nil)
	// The rotation's own time is what Temporal notes; the emergency's is also until it has seen the end of the rotation.
	one := func(id string, k rotation.Key) (rotation, emergency float64) {
		begin := time.Now()
		if f := w.emergency(id, 1, k); !f.Complete() {
			b.Fatalf("%s", f.Outcome)
		}
		emergency = time.Since(begin).Seconds()
		r, _ := w.rotationTook(k)
		return r.Seconds(), emergency
	}
	for range b.N {
		one("warm", w.keys[backlog])
		var alone, loaded [2]float64
		const times = 3
		add := func(to *[2]float64, id string, k rotation.Key) {
			r, e := one(id, k)
			to[0], to[1] = to[0]+r/times, to[1]+e/times
		}
		for i := range times {
			add(&alone, fmt.Sprintf("alone-%d", i), w.keys[backlog+1+i])
		}
		var all sync.WaitGroup
		turns := make(chan struct{}, 50)
		for _, k := range w.keys[:backlog] {
			turns <- struct{}{}
			all.Go(func() {
				w.start(k, rotation.Scheduled)
				<-turns
			})
		}
		all.Wait()
		for i := range times {
			add(&loaded, fmt.Sprintf("loaded-%d", i), w.keys[backlog+1+times+i])
		}
		waiting := 0
		for _, k := range w.keys[:backlog] {
			if _, ended := w.rotationTook(k); !ended {
				waiting++
			}
		}
		b.ReportMetric(float64(waiting), "still-waiting")
		b.ReportMetric(alone[0], "s-rotation-alone")
		b.ReportMetric(loaded[0], "s-rotation-loaded")
		b.ReportMetric(loaded[0]/alone[0], "rotation-ratio")
		b.ReportMetric(alone[1], "s-alone")
		b.ReportMetric(loaded[1], "s-loaded")
		b.ReportMetric(loaded[1]/alone[1], "ratio")
		b.ReportMetric(0, "ns/op")
	}
}

// rotationTook is how long the latest rotation of a key took; false while it runs.
func (w *env) rotationTook(k rotation.Key) (time.Duration, bool) {
	d, err := w.Client.DescribeWorkflowExecution(context.Background(), workflows.ID(k.Name), "")
	if err != nil {
		w.Error(err)
		return 0, false
	}
	info := d.GetWorkflowExecutionInfo()
	if info.GetCloseTime() == nil {
		return 0, false
	}
	return info.GetCloseTime().AsTime().Sub(info.GetStartTime().AsTime()), true
}
