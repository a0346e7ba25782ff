package e2e

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scene"
	"github.com/rekeyhq/rekey/internal/workers"
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

// bench is a scene with Google keys, which Google makes (small ones: it is not RSA that is measured), and workers in
// this process, on a server in memory.
type bench struct {
	scene  *scene.Scene
	client client.Client
	keys   []rotation.Key
}

func newBench(b *testing.B) *bench {
	b.Helper()
	ctx := context.Background()
	s, err := scene.Start(scene.Options{Policy: []string{"grace: 0s", "soak: 0s", "quiet: 0s"}, RequestTimeout: "2s", Mode: "create", KeyBits: 1024})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Stop)
	for i := range benchmarked {
		if _, err := s.Google(fmt.Sprintf("key-%d", i), scene.Alias); err != nil {
			b.Fatal(err)
		}
	}
	cfg, err := config.Parse("rekey.yaml", []byte(s.YAML()))
	if err != nil {
		b.Fatal(err)
	}
	acts, err := cfg.Open(ctx, nil)
	if err != nil {
		b.Fatal(err)
	}
	server, err := devserver.Start(ctx, devserver.Options{SearchAttributes: workflows.SearchAttributes()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop() })
	c, err := client.DialContext(ctx, client.Options{HostPort: server.HostPort(), Logger: silent})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	w, err := workers.Start(ctx, c, server.Namespace(), acts, workers.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	floor := sdkworker.New(c, "floor", sdkworker.Options{})
	floor.RegisterWorkflow(noop)
	floor.RegisterActivity(nothing)
	if err := floor.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(floor.Stop)
	return &bench{scene: s, client: c, keys: cfg.Keys}
}

func (x *bench) rotate(b *testing.B, k rotation.Key) client.WorkflowRun {
	run, err := x.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: workflows.ID(k.Name), TaskQueue: workflows.ProviderTaskQueue(k.Provider), TypedSearchAttributes: workflows.StartAttributes(k, rotation.Manual),
	}, workflows.RotateKey, workflows.Input{Key: k, Reason: rotation.Manual})
	if err != nil {
		b.Error(err)
		return nil
	}
	var res rotation.Result
	if err := run.Get(context.Background(), &res); err != nil || res.Phase != rotation.Completed {
		b.Errorf("%v: %+v", err, res)
	}
	return run
}

func (x *bench) floor(b *testing.B, activities int) {
	run, err := x.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{TaskQueue: "floor"}, noop, activities)
	if err == nil {
		err = run.Get(context.Background(), nil)
	}
	if err != nil {
		b.Error(err)
	}
}

// count reads how many activities and events a rotation had.
func (x *bench) count(b *testing.B, run client.WorkflowRun) (activities, events int) {
	iter := x.client.GetWorkflowHistory(context.Background(), run.GetID(), run.GetRunID(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
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

// BenchmarkRotation measures a rotation with no grace period on a cloud without delays beside the floor, in one run,
// and prints the ratios.
func BenchmarkRotation(b *testing.B) {
	if os.Getenv(envConfig) != "" {
		b.Skip("this is a worker")
	}
	x := newBench(b)
	activities, events := x.count(b, x.rotate(b, x.keys[0]))
	var latency, throughput [2]time.Duration
	timed := func(total *time.Duration, one func()) {
		begin := time.Now()
		one()
		*total += time.Since(begin)
	}
	both := []func(rotation.Key){
		func(k rotation.Key) { x.rotate(b, k) },
		func(rotation.Key) { x.floor(b, activities) },
	}
	for b.Loop() {
		// Google makes its keys itself.
		if err := x.scene.IAM.MakeAhead(2 * len(x.keys)); err != nil {
			b.Fatal(err)
		}
		// In turn, so that whatever else the machine does disturbs both alike.
		for _, k := range x.keys {
			for i, one := range both {
				timed(&latency[i], func() { one(k) })
			}
		}
		for i, one := range both {
			timed(&throughput[i], func() {
				var all sync.WaitGroup
				for _, k := range x.keys {
					all.Go(func() { one(k) })
				}
				all.Wait()
			})
		}
	}
	n := float64(b.N * benchmarked)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 / n }
	b.ReportMetric(float64(activities), "activities")
	b.ReportMetric(float64(events), "events")
	b.ReportMetric(ms(latency[0]), "ms/rotation")
	b.ReportMetric(ms(latency[1]), "ms/floor")
	b.ReportMetric(ms(latency[0])/ms(latency[1]), "latency-ratio")
	b.ReportMetric(n/throughput[0].Seconds(), "rotations/s")
	b.ReportMetric(n/throughput[1].Seconds(), "floors/s")
	b.ReportMetric(throughput[1].Seconds()/throughput[0].Seconds(), "throughput-ratio")
}
