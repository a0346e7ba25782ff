// Package engine starts Temporal workers for rekey: one for the rotations of each provider, each on its own task queue,
// and one for the workflows that start rotations. The program rekey-worker runs them, the demo runs them in its own
// process, and the tests run them in processes that they kill.
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
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/workflows"
)

// drain is how long activities that are under way may take to finish when the workers stop; it is longer than a
// request to a provider, so that no mint is cut off by a deployment.
const drain = 45 * time.Second

// Setup is what the workers of one rekey.yaml work with; worker/adapters makes it. The fields of activities.Environment and
// Channels are required.
type Setup struct {
	*activities.Environment
	// Channels are where people are notified, by the names that a policy uses.
	Channels map[string]notify.Channel
	// UI is the address of the Temporal UI that notifications link to; empty means that they carry no link.
	UI string
	// Limits bound the steps of a provider's rotations, by the names of Providers; a provider without one has no rate limit
	// and Options.MaxActivities.
	Limits map[string]Limit
}

// Limit bounds the steps of one provider's rotations. A field that is zero does not bound them.
type Limit struct {
	// Rate is how many steps begin each second, over all workers.
	Rate float64
	// Concurrency is how many steps run at once, on each worker.
	Concurrency int
}

// Options tune Start; every field is optional.
type Options struct {
	// Interceptors come before rekey's own.
	Interceptors []interceptor.WorkerInterceptor
	// OnFatalError is called when a worker stops for good (the namespace is gone, the credentials are refused).
	OnFatalError func(error)
	// MaxActivities is how many activities of one provider run at once, where rekey.yaml does not say; 0 is 20.
	MaxActivities int
	// StickyTimeout is how long the next step of a workflow waits for the worker that has it in its cache; 0 is the SDK's.
	// A worker that has died is waited for.
	StickyTimeout time.Duration
}

// Workers are running workers.
type Workers struct{ all []worker.Worker }

// Start begins to work on all task queues. It fails where a required field of the setup is not set, and where the namespace
// lacks a search attribute, because every rotation would fail at its first step.
func Start(ctx context.Context, c sdkclient.Client, namespace string, s *Setup, o Options) (*Workers, error) {
	if missing, err := MissingSearchAttributes(ctx, c, namespace); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, fmt.Errorf("the namespace %s lacks search attributes that rotations need. Create them once:\n\n  %s", namespace, CreateCommand(namespace, missing))
	}
	if o.MaxActivities == 0 {
		o.MaxActivities = 20
	}
	interceptors := append(slices.Clone(o.Interceptors), &activities.Interceptor{})
	rotations := client.New(c)
	starts := worker.New(c, workflows.TaskQueue, worker.Options{
		DisableRegistrationAliasing: true, WorkerStopTimeout: drain, Interceptors: interceptors, OnFatalError: o.OnFatalError,
		StickyScheduleToStartTimeout: o.StickyTimeout,
	})
	workflows.RegisterLaunch(starts)
	if err := activities.RegisterLaunch(starts, &activities.Launcher{Environment: s.Environment, Starter: rotations, Index: &activities.Index{}}); err != nil {
		return nil, err
	}
	w := &Workers{all: []worker.Worker{starts}}
	for _, name := range slices.Sorted(maps.Keys(s.Providers)) {
		limit := s.Limits[name]
		one := worker.New(c, workflows.ProviderTaskQueue(name), worker.Options{
			DisableRegistrationAliasing: true, MaxConcurrentActivityExecutionSize: cmp.Or(limit.Concurrency, o.MaxActivities),
			// Temporal keeps the rate, for all workers together.
			TaskQueueActivitiesPerSecond: limit.Rate,
			StickyScheduleToStartTimeout: o.StickyTimeout,
			WorkerStopTimeout:            drain, Interceptors: interceptors, OnFatalError: o.OnFatalError,
		})
		workflows.RegisterRotation(one)
		if err := s.RegisterRotation(one, rotations); err != nil {
			return nil, err
		}
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

// RegisterRotation registers the activities of rotations; rotations reports which ones are under way. It fails where a required
// field of the setup is not set.
func (s *Setup) RegisterRotation(r activities.Registry, rotations activities.Rotations) error {
	return activities.RegisterRotation(r, &activities.Steps{Environment: s.Environment, Rotations: rotations},
		&activities.Notifier{Environment: s.Environment, Channels: s.Channels, UI: s.UI})
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
