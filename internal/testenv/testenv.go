// Package testenv is the one environment of the tests that need a real Temporal: simulated providers and stores with the
// rekey.yaml that reaches them (Sim), a namespace of an embedded server (Temporal), and workers, in this process or in
// processes that tests kill (Env, which is all of it).
//
// The test binary is the worker process, too, and the tests of a package share one server; for both its TestMain calls
// Main. Tests that only need the SDK's test environment use internal/sdktest, which links no server.
package testenv

import (
	"context"
	"sync"
	"testing"

	"go.temporal.io/sdk/interceptor"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/worker/engine"
)

// Options say what an Env is made of.
type Options struct {
	SimOptions
	TemporalOptions
}

// Env is a simulated cloud, a Temporal, and the workers between them, once they are started.
type Env struct {
	testing.TB
	*Sim
	*Temporal
	*state
}

// state is what changes while an Env runs.
type state struct {
	mu      sync.Mutex
	running *engine.Workers
	process *process
}

// Fast is a policy in which nothing takes longer than it must. A step that has died with its worker is tried again after
// step_timeout: it is what tests that kill workers mostly wait for.
func Fast(lines ...string) []string {
	return append([]string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 3s"}, lines...)
}

// Start starts a cloud and a Temporal, and no workers. All of it ends with the test.
func Start(t testing.TB, o Options) *Env {
	t.Helper()
	e, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e.For(t)
}

// Open is Start for what many tests share. The Env belongs to no test; For gives it to one.
func Open(o Options) (*Env, error) {
	sim, err := openSim(o.SimOptions)
	if err != nil {
		return nil, err
	}
	t, err := openTemporal(o.TemporalOptions)
	if err != nil {
		sim.close()
		return nil, err
	}
	return &Env{Sim: sim, Temporal: t, state: &state{}}, nil
}

// For is the Env in the hands of a test.
func (e *Env) For(t testing.TB) *Env {
	with := *e
	with.TB = t
	return &with
}

// Close ends all of it.
func (e *Env) Close() {
	e.StopWorkers()
	e.StopWorkerProcess()
	e.Temporal.close()
	e.Sim.close()
}

// StartWorkers starts workers in this process, as the program rekey-worker does; interceptors come before rekey's own.
func (e *Env) StartWorkers(interceptors ...interceptor.WorkerInterceptor) {
	if err := e.Work(interceptors...); err != nil {
		e.Helper()
		e.Fatal(err)
	}
}

// Work is StartWorkers for an Env that belongs to no test.
func (e *Env) Work(interceptors ...interceptor.WorkerInterceptor) error {
	running, err := engine.Start(context.Background(), e.Client, e.Namespace, e.Setup, engine.Options{Interceptors: interceptors})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = running
	return nil
}

// StopWorkers ends the workers of this process, once what they do has ended.
func (e *Env) StopWorkers() {
	e.mu.Lock()
	running := e.running
	e.running = nil
	e.mu.Unlock()
	if running != nil {
		running.Stop()
	}
}

// Keys adds Google keys of these names, which applications read by an alias.
func Keys(names ...string) func(*scenario.Scenario) error {
	return func(s *scenario.Scenario) error {
		for _, name := range names {
			if _, err := s.Google(name, scenario.Alias); err != nil {
				return err
			}
		}
		return nil
	}
}
