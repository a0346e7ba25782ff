// Package fleet tests many rotations at once: emergencies beside schedules and people, and how fast it goes.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// town is a simulated cloud with Google keys, a Temporal in memory, and workers in this process.
type town struct {
	testing.TB
	*scenario.Scenario
	client sdkclient.Client
	keys   []rotation.Key
	old    map[string]string
}

// newTown has so many keys, whose provider has the given lines in rekey.yaml.
func newTown(t testing.TB, keys int, provider []string, interceptors ...interceptor.WorkerInterceptor) *town {
	t.Helper()
	return newTownOn(t, keys, provider, devserver.Options{}, interceptors...)
}

// newTownOn has a Temporal as the options want it.
func newTownOn(t testing.TB, keys int, provider []string, temporal devserver.Options, interceptors ...interceptor.WorkerInterceptor) *town {
	t.Helper()
	ctx := context.Background()
	w := &town{TB: t, old: map[string]string{}}
	var err error
	w.Scenario, err = scenario.Start(scenario.Options{
		Policy: []string{"period: 1ms", "grace: 0s", "soak: 0s", "quiet: 0s"}, RequestTimeout: "10s", Mode: "create", KeyBits: 1024, Google: provider,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Scenario.Stop)
	if err := w.IAM.MakeAhead(2 * keys); err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		name := fmt.Sprintf("ci-%04d", i)
		if w.old[name], err = w.Google(name, scenario.Alias); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Parse("rekey.yaml", []byte(w.YAML()))
	if err != nil {
		t.Fatal(err)
	}
	w.keys = cfg.Keys
	acts, err := adapters.Open(ctx, cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	temporal.SearchAttributes = workflows.SearchAttributes()
	server, err := devserver.Start(ctx, temporal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop() })
	if w.client, err = sdkclient.DialContext(ctx, sdkclient.Options{HostPort: server.HostPort(), Logger: silent}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.client.Close)
	running, err := engine.Start(ctx, w.client, server.Namespace(), acts, engine.Options{Interceptors: interceptors})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	return w
}

// start starts a rotation as a schedule or a person does; that one is under way already is as good.
func (w *town) start(k rotation.Key, reason rotation.Reason) {
	_, err := client.Start(context.Background(), w.client, workflows.Input{Key: k, Reason: reason, By: string(reason)})
	if err != nil && !errors.Is(err, client.ErrUnderWay) {
		w.Error(err)
	}
}

// emergency raises one over keys and waits until it is over.
func (w *town) emergency(id string, concurrency int, keys ...rotation.Key) workflows.EmergencyProgress {
	in := workflows.EmergencyInput{ID: id, Concurrency: concurrency, Message: rotation.DecisionMessage{By: "test", Why: "leaked"}}
	for _, k := range keys {
		in.Keys = append(in.Keys, k.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var f workflows.EmergencyProgress
	if err := client.StartEmergency(ctx, w.client, in); err != nil {
		w.Error(err)
		return f
	}
	if err := client.Wait(ctx, w.client, workflows.EmergencyID(id), "", &f); err != nil {
		w.Errorf("emergency %s: %v", id, err)
	}
	h, err := replaytest.Check(ctx, w.client, workflows.EmergencyID(id), "")
	if err == nil && id == "fleet-0" {
		err = replaytest.Keep(h, "emergency")
	}
	if err != nil {
		w.Error(err)
	}
	return f
}

// ended waits until no rotation of the key runs.
func (w *town) ended(k rotation.Key) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var res rotation.Result
	if err := client.Wait(ctx, w.client, workflows.ID(k.Name), "", &res); err != nil {
		w.Errorf("the rotation of %s: %v", k.Name, err)
	}
}

// silent drops the SDK's log lines.
var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
