package resources

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// envBurst is the switch that says how many people raise an emergency in one instant.
const envBurst = "REKEY_BURST"

func burst(t *testing.T) int {
	t.Helper()
	text := os.Getenv(envBurst)
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s is no number of people", envBurst, text)
	}
	return n
}

// instant lets n people do something in one instant, and gives how long the last of them had to wait, and what they were
// told who were refused.
func instant(n int, do func(i int) error) (longest time.Duration, refused []error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			begin := time.Now()
			err := do(i)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(begin))
			if err != nil {
				refused = append(refused, err)
			}
		})
	}
	close(start)
	all.Wait()
	return longest, refused
}

// crowd has as many Google keys as are wanted, and a worker in a process of its own.
func crowd(t *testing.T, n int) *env {
	t.Helper()
	w := newEnv(t, testenv.Options{SimOptions: testenv.SimOptions{
		Scenario: scenario.Options{Policy: []string{"grace: 0s", "soak: 0s", "quiet: 0s"}, RequestTimeout: "10s", Mode: "create"},
		Keys: func(s *scenario.Scenario) error {
			err := s.IAM.MakeAhead(2 * n)
			for i := 0; i < n && err == nil; i++ {
				_, err = s.Google(fmt.Sprintf("ci-%04d", i), scenario.Alias)
			}
			return err
		},
	}})
	w.StartProcess(testenv.ProcessOptions{})
	return w
}

// replacedAfter waits until every rotation has ended, and checks that each emergency came into the history of a rotation, that
// what applications read was made after the moment at which all were raised, and that nothing else is left. It gives how many
// keys were made of each account.
func (w *env) replacedAfter(moment time.Time, raised map[string][]string) (minted map[string]int) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	for _, k := range w.Config.Keys {
		var res rotation.Result
		if err := client.New(w.Client).WaitRun(ctx, workflows.ID(k.Name), "", &res); err != nil {
			w.Errorf("the rotation of %s: %v", k.Name, err)
			continue
		}
		heard := w.heard(k.Name, len(raised[k.Name]))
		for _, id := range raised[k.Name] {
			if !heard[id] {
				w.Errorf("the emergency %s of %s was taken, and is in no history", id, k.Name)
			}
		}
	}
	minted = map[string]int{}
	live := w.Cloud.LiveKeys()
	for _, e := range w.Cloud.Journal() {
		if e.Kind != simcloud.KeyCreated {
			continue
		}
		if e.At.After(moment) {
			minted[e.Target]++
		} else if _, works := live[e.KeyID]; works {
			w.Errorf("%s of %s, which leaked, still works", e.KeyID, e.Target)
		}
	}
	if orphans := w.Cloud.Orphans(); len(live) != len(w.Config.Keys) || len(orphans) > 0 {
		w.Errorf("%d keys are live, of %d; orphans: %v", len(live), len(w.Config.Keys), orphans)
	}
	for _, broken := range w.Cloud.Check(simcloud.Rules{}) {
		w.Error(broken)
	}
	return minted
}

var emergencyName = regexp.MustCompile(`leak-[0-9]+`)

// heard are the emergencies in the histories of all rotations of a key, once there are as many as are wanted, or no more
// rotations in the list.
func (w *env) heard(key string, want int) map[string]bool {
	w.Helper()
	found := map[string]bool{}
	for run := ""; ; {
		if run = w.hear(key, run, found); run == "" {
			break
		}
	}
	if len(found) >= want {
		return found
	}
	// Rotations that had ended before another one was started.
	r, err := w.Client.ListWorkflow(context.Background(), &workflowservice.ListWorkflowExecutionsRequest{Query: fmt.Sprintf("WorkflowId = %q", workflows.ID(key)), PageSize: 1000})
	if err != nil {
		w.Fatal(err)
	}
	for _, info := range r.GetExecutions() {
		w.hear(key, info.GetExecution().GetRunId(), found)
	}
	return found
}

// hear adds the emergencies in the history of a run, and gives the run that it continues.
func (w *env) hear(key, run string, found map[string]bool) (continues string) {
	w.Helper()
	events, err := w.Events(workflows.ID(key), run)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range events {
		text, err := proto.Marshal(e)
		if err != nil {
			w.Fatal(err)
		}
		for _, id := range emergencyName.FindAll(text, -1) {
			found[string(id)] = true
		}
	}
	return events[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId()
}

func TestEmergenciesOfManyKeysInOneInstantAreNeitherRefusedNorLostNorDoneTwice(t *testing.T) {
	n := burst(t)
	w := crowd(t, n)
	raised := map[string][]string{}
	for i, k := range w.Config.Keys {
		raised[k.Name] = []string{fmt.Sprintf("leak-%d", i)}
	}
	begin := time.Now()
	longest, refused := instant(n, func(i int) error {
		k := w.Config.Keys[i]
		return client.New(w.Client).Raise(context.Background(), k, rotation.DecisionMessage{ID: raised[k.Name][0], By: "hook", Why: "found"})
	})
	if len(refused) > 0 {
		t.Errorf("%d of %d were refused; the first: %v", len(refused), n, refused[0])
	}
	for account, n := range w.replacedAfter(begin, raised) {
		if n != 1 {
			t.Errorf("%d keys were made of %s for one emergency", n, account)
		}
	}
	t.Logf("burst: %d emergencies of as many keys in one instant: the last answer after %s, the last key replaced after %s", n, longest.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
}

func TestEmergenciesOfOneKeyByManyInOneInstantAreNeitherRefusedNorLostNorDoneTwice(t *testing.T) {
	n := burst(t)
	w := crowd(t, 1)
	k := w.Config.Keys[0]
	raised := map[string][]string{}
	for i := range n {
		raised[k.Name] = append(raised[k.Name], fmt.Sprintf("leak-%d", i))
	}
	begin := time.Now()
	longest, refused := instant(n, func(i int) error {
		return client.New(w.Client).Raise(context.Background(), k, rotation.DecisionMessage{ID: raised[k.Name][i], By: "hook", Why: "found"})
	})
	if len(refused) > 0 {
		t.Errorf("%d of %d were refused; the first: %v", len(refused), n, refused[0])
	}
	minted := w.replacedAfter(begin, raised)[k.Account]
	t.Logf("burst: %d emergencies of one key in one instant: %d keys made one after another, the last answer after %s, all served after %s", n, minted, longest.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
}
