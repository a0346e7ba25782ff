package keyyears

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// shape is a key and how it is rotated.
type shape struct {
	name   string
	byHand bool
	stores []string
	policy []string
}

// shapes are the keys that are lived with.
var shapes = []shape{
	{name: "google-one-store", stores: []string{scenario.Alias}},
	{name: "google-two-stores", stores: []string{scenario.Alias, scenario.Latest}},
	{name: "google-approved", stores: []string{scenario.Alias}, policy: []string{"approve: true"}},
	{name: "openai-by-hand", byHand: true, stores: []string{scenario.Alias}},
}

// world is a simulated cloud with one key, in a namespace of its own, and its worker. All of it lives by one clock.
type world struct {
	*scenario.Scenario
	shape
	key   rotation.Key
	acts  *activities.Activities
	clock *clock

	temporal sdkclient.Client
	stops    []func()
	// rotations counts keys that were made current, checks those that were looked at in grace, messages what people were sent.
	rotations, checks, messages atomic.Int64

	mu      sync.Mutex
	problem error
}

func newWorld(server *devserver.Server, n int, s shape, dir string) (w *world, err error) {
	ctx := context.Background()
	w = &world{shape: s, clock: newClock()}
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	w.Scenario, err = scenario.Start(scenario.Options{
		Now: w.clock.Now, Mode: "create", KeyBits: 1024, RequestTimeout: "10s", Dir: dir, Channels: true, Policy: append([]string{"notify: [team]"}, s.policy...),
	})
	if err != nil {
		return w, err
	}
	w.stops = append(w.stops, w.Scenario.Stop)
	add := w.Google
	if s.byHand {
		add = w.OpenAIKey
	}
	if _, err = add("key", s.stores...); err != nil {
		return w, err
	}
	cfg, err := config.Parse("rekey.yaml", []byte(w.YAML()))
	if err != nil {
		return w, err
	}
	w.key = cfg.Keys[0]
	if w.acts, err = adapters.Open(ctx, cfg, nil); err != nil {
		return w, err
	}
	w.acts.Now = w.clock.Now
	w.acts.Channels["team"] = (*person)(w)
	namespace := fmt.Sprintf("world-%d", n)
	if err = server.AddNamespace(ctx, namespace, workflows.SearchAttributes()); err != nil {
		return w, err
	}
	if w.temporal, err = sdkclient.DialContext(ctx, sdkclient.Options{
		HostPort: server.HostPort(), Namespace: namespace, Logger: silent,
		ConnectionOptions: sdkclient.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(skipTime)}},
	}); err != nil {
		return w, err
	}
	w.stops = append(w.stops, w.temporal.Close)
	running, err := engine.Start(ctx, w.temporal, namespace, w.acts, engine.Options{Interceptors: []interceptor.WorkerInterceptor{&follow{world: w}}})
	if err != nil {
		return w, err
	}
	w.stops = append(w.stops, running.Stop)
	lives := worker.New(w.temporal, lifeType, worker.Options{})
	lives.RegisterWorkflowWithOptions(life, workflow.RegisterOptions{Name: lifeType})
	if err = lives.Start(); err != nil {
		return w, err
	}
	w.stops = append(w.stops, lives.Stop)
	return w, nil
}

func (w *world) stop() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
}

// live lets the key live.
func (w *world) live(ctx context.Context, span time.Duration, beats bool) (lived, error) {
	in := lifeInput{Key: w.key, Span: span, Beats: beats, Install: w.acts.Install}
	run, err := w.temporal.ExecuteWorkflow(ctx, sdkclient.StartWorkflowOptions{ID: lifeType, TaskQueue: lifeType}, lifeType, in)
	if err != nil {
		return lived{}, err
	}
	var out lived
	err = client.Wait(ctx, w.temporal, lifeType, run.GetRunID(), &out)
	w.mu.Lock()
	defer w.mu.Unlock()
	return out, errors.Join(err, w.problem)
}

// check holds the journal of the cloud against the invariants, and what is left against what should be.
func (w *world) check(t *testing.T) {
	t.Helper()
	for _, broken := range w.Cloud.Check(scenario.Rules("key", w.stores...)) {
		t.Errorf("%s: %s", w.name, broken)
	}
	for _, id := range w.Cloud.Orphans() {
		t.Errorf("%s: I3: %s is an orphan", w.name, id)
	}
	if live := w.Cloud.LiveKeys(); len(live) != 1 {
		t.Errorf("%s: %d keys are live, want 1", w.name, len(live))
	}
}

// person is told what to do, and does it at once: while the notification is under way the virtual time stands still.
type person world

// Notify implements the channel.
func (p *person) Notify(ctx context.Context, n rotation.Notification) error {
	w := (*world)(p)
	w.messages.Add(1)
	if n.Event != rotation.EventNeeded {
		return nil
	}
	err := w.act(ctx, n)
	if err != nil {
		w.mu.Lock()
		w.problem = errors.Join(w.problem, fmt.Errorf("in %s: %w", n.Phase, err))
		w.mu.Unlock()
	}
	return nil
}

func (w *world) act(ctx context.Context, n rotation.Notification) error {
	decide := func(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
		m.By = "a person"
		_, err := client.Decide(ctx, w.temporal, w.key.Name, kind, m)
		return err
	}
	switch n.Phase {
	case rotation.AwaitingKey:
		_, v := w.OpenAI.CreateKey(w.key.Account, "made by hand")
		version, fingerprint, err := w.acts.StageSupplied(ctx, w.key, n.Rotation, v)
		if err != nil {
			return err
		}
		return decide(rotation.KeySupplied, rotation.DecisionMessage{Version: version, Fingerprint: fingerprint})
	case rotation.AwaitingRevocation:
		current := map[string]bool{}
		for _, id := range w.Cloud.PublishedKeys() {
			current[id] = true
		}
		for id := range w.Cloud.LiveKeys() {
			if !current[id] {
				if err := w.OpenAI.DeleteKey(id); err != nil {
					return err
				}
			}
		}
		return decide(rotation.KeyRevoked, rotation.DecisionMessage{})
	case rotation.AwaitingApproval:
		return decide(rotation.Approve, rotation.DecisionMessage{})
	}
	return fmt.Errorf("nobody knows what to do: %s", n.Message)
}

// follow is a worker interceptor: the world's clock follows the moments at which Temporal schedules activities.
type follow struct {
	interceptor.WorkerInterceptorBase
	world *world
}

func (f *follow) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &followInbound{interceptor.ActivityInboundInterceptorBase{Next: next}, f.world}
}

type followInbound struct {
	interceptor.ActivityInboundInterceptorBase
	world *world
}

func (f *followInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	info := activity.GetInfo(ctx)
	f.world.clock.advance(info.ScheduledTime)
	switch info.ActivityType.Name {
	case activities.CheckHealthName:
		f.world.checks.Add(1)
	case activities.RetireName:
		f.world.rotations.Add(1)
	}
	return f.Next.ExecuteActivity(ctx, in)
}
