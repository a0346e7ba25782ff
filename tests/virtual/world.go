package virtual

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// Shape is a key and how it is rotated.
type Shape struct {
	Name   string
	ByHand bool
	Stores []string
	Policy []string
}

// Shapes returns the keys that the tests live with.
func Shapes() []Shape {
	return []Shape{
		{Name: "google-one-store", Stores: []string{scenario.Alias}},
		{Name: "google-two-stores", Stores: []string{scenario.Alias, scenario.Latest}},
		{Name: "google-approved", Stores: []string{scenario.Alias}, Policy: []string{"approve: true"}},
		{Name: "openai-by-hand", ByHand: true, Stores: []string{scenario.Alias}},
	}
}

// Options tune a World.
type Options struct {
	Shape Shape
	// Dir is a folder of its own.
	Dir string
	// Mode is how Google's keys are made; empty means "create", which is quick, but where a mint without an answer leaves a key
	// that nobody can prove.
	Mode string
	// RequestTimeout is how long, in real time, a request to the cloud may take; empty means 10s.
	RequestTimeout string
	// Processes is how many worker processes there are; 0: the worker is in this process. The test binary is the worker
	// process, too: its TestMain calls Main.
	Processes int
	Hooks
}

// World is a simulated cloud with one key, in a namespace of its own on a server, and its worker. All of it lives by one
// virtual clock.
type World struct {
	*scenario.Scenario
	Shape
	Key  rotation.Key
	Acts *engine.Setup
	// Person acts where a rotation needs one; the default does what is wanted, at once. While a notification is being
	// delivered the virtual time stands still. An error fails the next Rotate.
	Person func(ctx context.Context, n rotation.Notification) error
	// Before, if set, is called when an activity begins, before the clock moves to that moment, and After when it has ended.
	Before, After func(activity string)
	// MayDie are the keys that somebody asks to take away before there is a new one.
	MayDie []string
	// Moved, if set, is called when the clock has moved, before the activity that it moved for.
	Moved func()
	// Checks counts the health checks in grace, Messages the notifications.
	Checks, Messages atomic.Int64

	// Namespace is where its workflows are; Temporal is a client in it.
	Namespace string
	Temporal  sdkclient.Client

	logs      testlog.Buffer
	clock     *clock
	stops     []func()
	url       string
	processes []*process

	mu      sync.Mutex
	problem error
	// last is the worker that began an activity last.
	last int
}

var worlds atomic.Int64

// NewWorld makes a world on a server that was started with SkipTime.
func NewWorld(ctx context.Context, server *devserver.Server, o Options) (w *World, err error) {
	w = &World{Shape: o.Shape, clock: newClock()}
	w.Person = w.Act
	defer func() {
		if err != nil {
			w.Close()
		}
	}()
	options := scenario.Options{
		Now: w.clock.Now, Mode: cmp.Or(o.Mode, "create"), KeyBits: 1024, AWS: slices.Contains(o.Shape.Stores, scenario.AWS), RequestTimeout: cmp.Or(o.RequestTimeout, "10s"), Dir: o.Dir, Channels: true,
		Policy: append([]string{"notify: [team]"}, o.Shape.Policy...),
	}
	if o.Hooks.Scenario != nil {
		o.Hooks.Scenario(&options)
	}
	if w.Scenario, err = scenario.Start(options); err != nil {
		return w, err
	}
	w.stops = append(w.stops, w.Scenario.Stop)
	add := w.Google
	if o.Shape.ByHand {
		add = w.OpenAIKey
	}
	if _, err = add("key", o.Shape.Stores...); err != nil {
		return w, err
	}
	cfg, err := config.Parse("rekey.yaml", []byte(w.YAML()))
	if err != nil {
		return w, err
	}
	w.Key = cfg.Keys[0]
	if w.Acts, err = adapters.Open(ctx, cfg, slog.New(slog.NewJSONHandler(&w.logs, nil))); err != nil {
		return w, err
	}
	w.Acts.Now = w.clock.Now
	w.Acts.Channels["team"] = channel{w}
	w.Namespace = fmt.Sprintf("world-%d", worlds.Add(1))
	if err = server.AddNamespace(ctx, w.Namespace, workflows.SearchAttributes()); err != nil {
		return w, err
	}
	if w.Temporal, err = dial(ctx, server.HostPort(), w.Namespace, o.Requests...); err != nil {
		return w, err
	}
	w.stops = append(w.stops, w.Temporal.Close)
	if o.Processes > 0 {
		if err = w.listen(server.HostPort(), w.Namespace); err != nil {
			return w, err
		}
		for n := range o.Processes {
			w.startProcess(n)
		}
	} else {
		running, err := engine.Start(ctx, w.Temporal, w.Namespace, w.Acts, engine.Options{Interceptors: append(o.Workers, &follow{hears: w})})
		if err != nil {
			return w, err
		}
		w.stops = append(w.stops, running.Stop)
	}
	drives := worker.New(w.Temporal, driverType, worker.Options{})
	drives.RegisterWorkflowWithOptions(driver, workflow.RegisterOptions{Name: driverType})
	if err = drives.Start(); err != nil {
		return w, err
	}
	w.stops = append(w.stops, drives.Stop)
	return w, persist(ctx, func() error {
		_, err := w.Temporal.ExecuteWorkflow(ctx, sdkclient.StartWorkflowOptions{ID: driverType, TaskQueue: driverType}, driverType)
		return err
	})
}

// persist repeats what fails because a Temporal's database lies, for a while.
func persist(ctx context.Context, do func() error) error {
	for tries := 20; ; tries-- {
		err := do()
		if err == nil || tries == 0 || ctx.Err() != nil || errors.As(err, new(*temporal.ApplicationError)) {
			return err
		}
	}
}

// dial connects to a namespace whose workflows skip time. Interceptors of requests come first.
func dial(ctx context.Context, hostPort, namespace string, requests ...grpc.UnaryClientInterceptor) (sdkclient.Client, error) {
	return sdkclient.DialContext(ctx, sdkclient.Options{
		HostPort: hostPort, Namespace: namespace, Logger: silent,
		ConnectionOptions: sdkclient.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(append(requests, skipTime)...)}},
	})
}

// Close ends the world.
func (w *World) Close() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
}

// Pass lets time pass, in which nothing happens but what the cloud does late.
func (w *World) Pass(d time.Duration) { w.clock.advance(w.clock.Now().Add(d)) }

// Now returns the world's time.
func (w *World) Now() time.Time { return w.clock.Now() }

// Rotate starts a rotation when the given time has passed, and waits until it has ended. An error means that it did not
// end by itself, or that a person could not act.
func (w *World) Rotate(ctx context.Context, after time.Duration, reason rotation.Reason, emergencies ...rotation.Decision) (rotation.Result, error) {
	res, closed, err := w.Start(ctx, after, workflows.Input{Key: w.Key, Reason: reason, By: "test", Emergencies: emergencies})
	if closed != "" {
		err = errors.Join(err, errors.New(closed))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return res, errors.Join(err, w.problem)
}

// Beat lets the key's schedule beat when the given time has passed. A rotation that it starts goes on after it.
func (w *World) Beat(ctx context.Context, after time.Duration) error {
	return w.order(ctx, beatUpdate, order{After: after, Input: workflows.Input{Key: w.Key}, Install: w.Acts.Install}, nil)
}

// Status returns the state of the rotation that runs.
func (w *World) Status(ctx context.Context) (rotation.Status, error) {
	return client.New(w.Temporal).Status(ctx, w.Key.Name)
}

// Wait waits until the latest rotation has ended.
func (w *World) Wait(ctx context.Context) (res rotation.Result, err error) {
	err = client.New(w.Temporal).WaitRun(ctx, workflows.ID(w.Key.Name), "", &res)
	return res, err
}

// Closed waits until no rotation runs, however the latest one ended.
func (w *World) Closed(ctx context.Context) error {
	for {
		_, runs, err := client.New(w.Temporal).Running(ctx, w.Key.Name)
		if err == nil && !runs {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Fail is an error of whoever acts beside the rotation; the next Rotate returns it.
func (w *World) Fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.problem == nil {
		w.problem = err
	}
}

func (w *World) order(ctx context.Context, update string, o order, out any) error {
	o.Now = w.clock.Now()
	id := uuid.NewString() // repeated, it is still one
	return persist(ctx, func() error {
		h, err := w.Temporal.UpdateWorkflow(ctx, sdkclient.UpdateWorkflowOptions{
			UpdateID: id, WorkflowID: driverType, UpdateName: update, Args: []any{o}, WaitForStage: sdkclient.WorkflowUpdateStageAccepted,
		})
		if err != nil {
			return err
		}
		return h.Get(ctx, out)
	})
}

// Check returns what does not hold: the invariants in the cloud's journal, and whether one key is left.
func (w *World) Check() []string {
	rules := w.Rules("key", w.Stores...)
	rules.MayDie = w.MayDie
	broken := w.Cloud.Check(rules)
	for _, id := range w.Cloud.Orphans() {
		broken = append(broken, "I3: "+id+" is an orphan")
	}
	if live := w.Cloud.LiveKeys(); len(live) != 1 {
		broken = append(broken, fmt.Sprintf("%d keys are left, want 1: %v", len(live), live))
	}
	return broken
}

// channel is where the world's person is notified.
type channel struct{ *World }

// Notify implements the channel.
func (c channel) Notify(ctx context.Context, n rotation.Notification) error {
	c.notified(ctx, n)
	return nil
}

// notified lets the person act.
func (w *World) notified(ctx context.Context, n rotation.Notification) {
	w.Messages.Add(1)
	if n.Event == rotation.EventCompleted || n.Event == rotation.EventRolledBack {
		return
	}
	if err := w.Person(ctx, n); err != nil {
		w.Fail(fmt.Errorf("a person in %s: %w", n.Phase, err))
	}
}

// begin is called when an activity begins, in whatever process.
func (w *World) begin(m moment) {
	w.mu.Lock()
	w.last = m.Worker
	w.mu.Unlock()
	if w.Before != nil {
		w.Before(m.Activity)
	}
	if w.clock.advance(m.Scheduled) && w.Moved != nil {
		w.Moved()
	}
	if m.Activity == activities.CheckHealthName {
		w.Checks.Add(1)
	}
}

// end is called when an activity has ended.
func (w *World) end(m moment) {
	if w.After != nil {
		w.After(m.Activity)
	}
}

// Decide sends a decision as the rotation's person.
func (w *World) Decide(ctx context.Context, kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	m.By = "a person"
	_, err := client.New(w.Temporal).Decide(ctx, w.Key.Name, kind, m)
	return err
}

// Act does what a notification asks for.
func (w *World) Act(ctx context.Context, n rotation.Notification) error {
	status, err := client.New(w.Temporal).Status(ctx, w.Key.Name)
	if err != nil {
		return err
	}
	switch accepts := func(k rotation.DecisionKind) bool { return slices.Contains(status.Accepts, k) }; {
	case accepts(rotation.KeySupplied) && strings.Contains(status.Details, "without a version"):
		// The rotation was reset, and goes on with the key that it has published.
		return w.Decide(ctx, rotation.KeySupplied, rotation.DecisionMessage{})
	case accepts(rotation.KeySupplied):
		_, v := w.OpenAI.CreateKey(w.Key.Account, "made by hand")
		var version, fingerprint string
		for range 3 { // a person repeats what has failed
			if version, fingerprint, err = w.Acts.StageSupplied(ctx, w.Key, n.Rotation, v); err == nil {
				break
			}
		}
		if err != nil {
			return err
		}
		return w.Decide(ctx, rotation.KeySupplied, rotation.DecisionMessage{Version: version, Fingerprint: fingerprint})
	case accepts(rotation.KeyRevoked):
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
		return w.Decide(ctx, rotation.KeyRevoked, rotation.DecisionMessage{})
	case accepts(rotation.Approve):
		return w.Decide(ctx, rotation.Approve, rotation.DecisionMessage{})
	}
	return nil // it is blocked: it goes on when what is wrong is over
}

// hears is who is told of activities.
type hears interface {
	begin(moment)
	end(moment)
}

// follow is a worker interceptor: the world's clock follows the moments at which Temporal schedules activities.
type follow struct {
	interceptor.WorkerInterceptorBase
	hears
}

func (f *follow) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &followInbound{interceptor.ActivityInboundInterceptorBase{Next: next}, f.hears}
}

type followInbound struct {
	interceptor.ActivityInboundInterceptorBase
	hears
}

func (f *followInbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	info := activity.GetInfo(ctx)
	m := moment{Activity: info.ActivityType.Name, Scheduled: info.ScheduledTime}
	f.begin(m)
	defer f.end(m)
	return f.Next.ExecuteActivity(ctx, in)
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
