package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// The keys of the environment. A person makes and revokes all of them.
const (
	journeyKey   = "openai-prod"
	wrongKey     = "openai-staging"
	waitingKey   = "openai-search"
	emergencyKey = "openai-batch"
	returnedKey  = "openai-archive"
)

// env is the test environment with Temporal's UI, workers, and a browser. It outlives the tests, which may run again.
type env struct {
	*testenv.Env
	browser context.Context
	// old and fresh are the ids of the keys that applications read and that a person made since: tests can be run again.
	old, fresh map[string]string
}

// open starts all of it. stop ends what was started, also after an error.
func open(chromium string) (_ *env, stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	dir, err := os.MkdirTemp("", "rekey-browser-")
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, func() { _ = os.RemoveAll(dir) })
	w := &env{old: map[string]string{}, fresh: map[string]string{}}
	keys := func(s *scenario.Scenario) (err error) {
		for _, key := range []string{journeyKey, wrongKey, waitingKey, emergencyKey, returnedKey} {
			if w.old[key], err = s.OpenAIKey(key, scenario.Local); err != nil {
				return err
			}
		}
		return nil
	}
	if w.Env, err = testenv.Open(testenv.Options{
		TemporalOptions: testenv.TemporalOptions{Own: &devserver.Options{UI: true}},
		SimOptions: testenv.SimOptions{Keys: keys, Scenario: scenario.Options{
			Dir: dir, RequestTimeout: "2s", Propagation: "2s", RevocationLag: "2s",
			Policy: []string{"grace: 1s", "soak: 0s", "quiet: 0s", "recheck: 1s", "step_timeout: 10s", "approve: true"},
		}},
	}); err != nil {
		return nil, stop, err
	}
	stops = append(stops, w.Close)
	if err := w.Work(); err != nil {
		return nil, stop, err
	}
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(filepath.Join(dir, "browser")), chromedp.WindowSize(width, height),
		chromedp.Flag("headless", "new"), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("hide-scrollbars", true), chromedp.Flag("disable-dev-shm-usage", true),
	)
	browser, endBrowser := chromedp.NewContext(allocator)
	stops = append(stops, endAllocator, endBrowser)
	w.browser = browser
	if err := chromedp.Do(browser, chromedp.EmulateViewport(width, height), chromedp.Navigate(w.UIURL())); err != nil {
		return nil, stop, fmt.Errorf("%s does not start: %w", chromium, err)
	}
	return w, stop, nil
}

// start starts the rotation of a key, and waits until it wants a new key.
func (w *env) start(t *testing.T, key string, reason rotation.Reason) {
	t.Helper()
	k, err := w.key(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.New(w.Client).Start(t.Context(), client.Request{Key: k, Reason: reason, By: "ops@example.com", Why: "the quarter is over"}); err != nil {
		t.Fatal(err)
	}
	// Not with t.Context(), which has ended by then. One that has ended by itself needs nothing.
	t.Cleanup(func() {
		_ = w.Client.TerminateWorkflow(context.Background(), workflows.ID(key), "", "the test is over")
	})
	w.waitFor(t, key, rotation.AwaitingKey)
}

func (w *env) key(name string) (rotation.Key, error) {
	if k, ok := w.Config.Key(name); ok {
		return k, nil
	}
	return rotation.Key{}, errors.New("no key " + name)
}

// waitFor waits until a rotation is in a phase.
func (w *env) waitFor(t *testing.T, key string, p rotation.Phase) {
	t.Helper()
	var s rotation.Status
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s, err = client.New(w.Client).Status(t.Context(), key); err == nil && s.Phase == p {
			return
		}
	}
	t.Fatalf("the rotation of %s does not come to %s: %v\n%s", key, p, err, s.Details)
}

// supply makes a key in the provider's console and puts it into the store, as `rekey supply` does before it tells
// the rotation. It gives the number of the version, and the key's id.
func (w *env) supply(t *testing.T, key string) (version, id string) {
	t.Helper()
	k, err := w.key(key)
	if err != nil {
		t.Fatal(err)
	}
	id, value := w.OpenAI.CreateKey(k.Account, "made by hand, again")
	s, err := client.New(w.Client).Status(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if version, _, err = w.Setup.StageSupplied(t.Context(), k, s.Rotation, value); err != nil {
		t.Fatal(err)
	}
	w.fresh[key] = id
	return version, id
}

// listed is how the provider's console lists a key.
func (w *env) listed(t *testing.T, key, id string) string {
	t.Helper()
	for _, k := range w.OpenAI.Keys(scenario.OpenAIProject(key)) {
		if k.ID == id {
			return "sk-..." + k.Redacted[len(k.Redacted)-4:]
		}
	}
	t.Fatalf("the console has no key %s of %s", id, key)
	return ""
}

// revokeOld deletes the old key in the provider's console.
func (w *env) revokeOld(t *testing.T, key string) {
	t.Helper()
	if err := w.OpenAI.DeleteKey(w.old[key]); err != nil {
		t.Fatal(err)
	}
	w.old[key] = w.fresh[key]
}

// events are the types of what is in the history of a rotation.
func (w *env) events(t *testing.T, key string) (types []string) {
	t.Helper()
	for it := w.Client.GetWorkflowHistory(t.Context(), workflows.ID(key), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
		e, err := it.Next()
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, e.GetEventType().String())
	}
	return types
}

// decide sends a decision as the command line does.
func (w *env) decide(t *testing.T, key string, kind rotation.DecisionKind, m rotation.DecisionMessage) {
	t.Helper()
	h, err := w.Client.UpdateWorkflow(t.Context(), sdkclient.UpdateWorkflowOptions{
		WorkflowID: workflows.ID(key), UpdateName: string(kind), Args: []any{m}, WaitForStage: sdkclient.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = h.Get(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lists waits until a query finds, of some keys, the rotations of those that are wanted and no others.
func (w *env) lists(t *testing.T, query string, of, want []string) {
	t.Helper()
	var found []string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var all *workflowservice.ListWorkflowExecutionsResponse
		if all, err = w.Client.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: query}); err != nil {
			continue
		}
		found = nil
		for _, key := range of {
			if slices.ContainsFunc(all.GetExecutions(), func(e *workflowpb.WorkflowExecutionInfo) bool {
				return e.GetExecution().GetWorkflowId() == workflows.ID(key)
			}) {
				found = append(found, key)
			}
		}
		if slices.Equal(found, want) {
			return
		}
	}
	t.Errorf("%s finds %v, want %v (%v)", query, found, want, err)
}
