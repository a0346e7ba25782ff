// Package workers starts Temporal workers for rekey: one for the rotations of each provider, each on its own task
// queue, and one for the workflows that start rotations. `worker` runs them, the demo does in its own process, and the tests do in
// processes that they kill.
package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/worker"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/workflows"
)

// drain is how long activities that are under way may take to finish when the workers stop; it is longer than a
// request to a provider, so that no mint is cut off by a deployment.
const drain = 45 * time.Second

// Options tune Start.
type Options struct {
	// Interceptors come before rekey's own.
	Interceptors []interceptor.WorkerInterceptor
	// OnFatalError is told when a worker stops for good (the namespace is gone, the credentials are refused).
	OnFatalError func(error)
	// MaxActivities is how many activities of one provider run at once, where rekey.yaml does not say; 0 is 20.
	MaxActivities int
	// StickyTimeout is how long the next step of a workflow waits for the worker that has it in its cache; 0 is the SDK's.
	// A worker that has died is waited for.
	StickyTimeout time.Duration
}

// Workers are running workers.
type Workers struct{ all []worker.Worker }

// Start begins to work on all task queues. It refuses when the namespace lacks a search attribute, because every
// rotation would fail at its first step.
func Start(ctx context.Context, c sdkclient.Client, namespace string, a *activities.Activities, o Options) (*Workers, error) {
	if missing, err := MissingSearchAttributes(ctx, c, namespace); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, fmt.Errorf("the namespace %s lacks search attributes that rotations need. Create them once:\n\n  %s", namespace, CreateCommand(namespace, missing))
	}
	if o.MaxActivities == 0 {
		o.MaxActivities = 20
	}
	interceptors := append(slices.Clone(o.Interceptors), &activities.Interceptor{})
	if a.Rotations == nil {
		with := *a
		with.Rotations, with.Starter, a = client.Client{Temporal: c}, client.Client{Temporal: c}, &with
	}
	starts := worker.New(c, workflows.TaskQueue, worker.Options{
		DisableRegistrationAliasing: true, WorkerStopTimeout: drain, Interceptors: interceptors, OnFatalError: o.OnFatalError,
		StickyScheduleToStartTimeout: o.StickyTimeout,
	})
	workflows.RegisterLaunch(starts)
	a.RegisterLaunch(starts)
	w := &Workers{all: []worker.Worker{starts}}
	for _, name := range slices.Sorted(maps.Keys(a.Providers)) {
		limit := a.Limits[name]
		one := worker.New(c, workflows.ProviderTaskQueue(name), worker.Options{
			DisableRegistrationAliasing: true, MaxConcurrentActivityExecutionSize: cmp.Or(limit.Concurrency, o.MaxActivities),
			// Temporal keeps the rate, for all workers together.
			TaskQueueActivitiesPerSecond: limit.Rate,
			StickyScheduleToStartTimeout: o.StickyTimeout,
			WorkerStopTimeout:            drain, Interceptors: interceptors, OnFatalError: o.OnFatalError,
		})
		workflows.RegisterRotation(one)
		a.RegisterRotation(one)
		w.all = append(w.all, one)
	}
	for i, one := range w.all {
		if err := one.Start(); err != nil {
			(&Workers{all: w.all[:i]}).Stop()
			return nil, fmt.Errorf("a worker does not start: %w", err)
		}
	}
	return w, nil
}

// Stop takes no new work and waits for what is under way, on all task queues at once.
func (w *Workers) Stop() {
	var all sync.WaitGroup
	for _, one := range w.all {
		all.Go(one.Stop)
	}
	all.Wait()
}

// MissingSearchAttributes names the search attributes that rotations need and the namespace does not have.
func MissingSearchAttributes(ctx context.Context, c sdkclient.Client, namespace string) ([]string, error) {
	have, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return nil, fmt.Errorf("the search attributes of namespace %s cannot be read: %w", namespace, err)
	}
	var missing []string
	for name, kind := range workflows.SearchAttributes() {
		if have.GetCustomAttributes()[name] != kind {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// CreateCommand is the Temporal command that creates search attributes.
func CreateCommand(namespace string, names []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "temporal operator search-attribute create --namespace %s", namespace)
	for _, n := range names {
		fmt.Fprintf(&b, " --name %s --type %s", n, workflows.SearchAttributes()[n])
	}
	return b.String()
}
