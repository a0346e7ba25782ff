// Package manykeys tests many rotations at once: emergencies beside schedules and people, and how fast it goes.
package manykeys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.temporal.io/sdk/interceptor"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// The tests of waits mostly wait: more of them at once than there are cores.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m, testenv.MainOptions{Parallel: 8})) }

// env has Google keys, and workers in this process.
type env struct {
	*testenv.Env
	keys []rotation.Key
	old  map[string]string
}

// newEnv has so many keys, whose provider has the given lines in rekey.yaml.
func newEnv(t testing.TB, keys int, provider []string, interceptors ...interceptor.WorkerInterceptor) *env {
	t.Helper()
	return newEnvOn(t, keys, provider, nil, interceptors...)
}

// newEnvOn has a Temporal as the options want it.
func newEnvOn(t testing.TB, keys int, provider []string, own *devserver.Options, interceptors ...interceptor.WorkerInterceptor) *env {
	t.Helper()
	w := &env{old: map[string]string{}}
	add := func(s *scenario.Scenario) (err error) {
		err = s.IAM.MakeAhead(2 * keys)
		for i := 0; i < keys && err == nil; i++ {
			name := fmt.Sprintf("ci-%04d", i)
			w.old[name], err = s.Google(name, scenario.Alias)
		}
		return err
	}
	w.Env = testenv.Start(t, testenv.Options{TemporalOptions: testenv.TemporalOptions{Own: own}, SimOptions: testenv.SimOptions{Keys: add, Scenario: scenario.Options{
		Policy: []string{"period: 1ms", "grace: 0s", "soak: 0s", "quiet: 0s"}, RequestTimeout: "10s", Mode: "create", KeyBits: 1024, Google: provider,
	}}})
	w.keys = w.Config.Keys
	w.StartWorkers(interceptors...)
	return w
}

// start starts a rotation as a schedule or a person does; an already running one counts as success.
func (w *env) start(k rotation.Key, reason rotation.Reason) {
	_, err := client.New(w.Client).Start(context.Background(), client.Request{Key: k, Reason: reason, By: string(reason)})
	if err != nil && !errors.Is(err, client.ErrRunning) {
		w.Error(err)
	}
}

// inCorpus is the emergency whose history goes into the corpus of tests/replay.
const inCorpus = "person-0"

// emergency raises one over keys and waits until it is over.
func (w *env) emergency(id string, concurrency int, keys ...rotation.Key) workflows.EmergencyProgress {
	in := workflows.EmergencyInput{ID: id, Concurrency: concurrency, Message: rotation.DecisionMessage{By: "test", Why: "leaked"}}
	for _, k := range keys {
		in.Keys = append(in.Keys, k.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var f workflows.EmergencyProgress
	if err := client.New(w.Client).StartEmergency(ctx, in); err != nil {
		w.Error(err)
		return f
	}
	if err := client.New(w.Client).WaitRun(ctx, workflows.EmergencyID(id), "", &f); err != nil {
		w.Errorf("emergency %s: %v", id, err)
	}
	name := ""
	if id == inCorpus {
		name = "emergency"
	}
	if _, err := w.Replayed(workflows.EmergencyID(id), "", name); err != nil {
		w.Error(err)
	}
	return f
}

// ended waits until no rotation of the key runs.
func (w *env) ended(k rotation.Key) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var res rotation.Result
	if err := client.New(w.Client).WaitRun(ctx, workflows.ID(k.Name), "", &res); err != nil {
		w.Errorf("the rotation of %s: %v", k.Name, err)
	}
}
