package engine_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testenv"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

const day = 24 * time.Hour

// setup says which key a test is about.
type setup struct {
	// name is the key's: "ci", a service account's, or "gpt", which a person makes and revokes.
	name   string
	stores []string
	opts   scenario.Options
	// edit changes the rekey.yaml of the scenario.
	edit func(yaml string) string
}

// googleKey is a key that rekey makes and revokes, in a store that is read by alias and in one that is read as latest.
func googleKey(policy ...string) setup {
	return setup{name: "ci", stores: []string{scenario.Alias, scenario.Latest}, opts: scenario.Options{Policy: policy, KeyBits: 1024}}
}

// manualKey is a key that a person makes and revokes.
func manualKey(policy ...string) setup {
	return setup{name: "gpt", stores: []string{scenario.Alias}, opts: scenario.Options{Policy: policy}}
}

// told adds a team that is told when a person is needed.
func (s setup) told(t *testing.T) setup {
	t.Helper()
	s.opts.Channels, s.opts.Dir = true, t.TempDir()
	s.opts.Policy = append(slices.Clone(s.opts.Policy), "notify: [team]")
	return s
}

// fixture is a simulated cloud with one key, and what rekey needs to work there.
type fixture struct {
	*testing.T
	*testenv.Sim
	key rotation.Key
	// oldID is the key that is in the stores before the first rotation.
	oldID string
	rules simcloud.Rules
	// rotations reports which rotations are under way.
	rotations activities.Rotations
}

// newFixture starts a cloud whose clock is now, and a worker's adapters whose clock is workers.
func newFixture(t *testing.T, s setup, now, workers func() time.Time) fixture {
	t.Helper()
	w := fixture{T: t, rotations: neighbours{}, rules: scenario.Rules(s.name, s.stores...)}
	s.opts.Now = now
	w.Sim = testenv.StartSim(t, testenv.SimOptions{Scenario: s.opts, Edit: s.edit, Keys: func(c *scenario.Scenario) (err error) {
		add := c.Google
		if s.name == "gpt" {
			add = c.OpenAIKey
		}
		w.oldID, err = add(s.name, s.stores...)
		return err
	}})
	w.key = w.Key(s.name)
	if workers != nil {
		w.Setup.Now = workers
	}
	return w
}

// first is the value that the key had before the first rotation.
func (w *fixture) first() secret.Value { return w.First(w.key.Name) }

// foreign makes a key of the account that no store knows.
func (w *fixture) foreign() (id string, value secret.Value) {
	w.Helper()
	id, value, err := w.IAM.CreateForeignKey(w.key.Account)
	if err != nil {
		w.Fatal(err)
	}
	return id, value
}

// crowd fills the account, so that there is room for one more key.
func (w *fixture) crowd() {
	w.Helper()
	for len(w.Cloud.LiveKeys()) < 9 {
		id, _ := w.foreign()
		w.rules.Foreign = append(w.rules.Foreign, id)
	}
}

// forgotten puts a live key into the first store under no stage, as somebody left it there years ago.
func (w *fixture) forgotten() (id string, value secret.Value) {
	w.Helper()
	id, value = w.foreign()
	// Once the record is written, applications read by alias.
	ctx, s, path := context.Background(), w.Setup.Stores[scenario.Alias], w.key.Stores[0].Path
	snap, err := s.Load(ctx, path)
	if err == nil {
		_, err = s.Save(ctx, path, snap)
	}
	if err == nil {
		_, err = s.Add(ctx, path, value)
	}
	if err != nil {
		w.Fatal(err)
	}
	return id, value
}

// during does something while the next request to a method of a service is under way, before it takes effect.
func (w *fixture) during(service, method string, f func()) {
	held := simcloud.Fault{Service: service, Method: method, Kind: simcloud.Hold, Times: 1, Release: make(chan struct{}), Reached: make(chan struct{})}
	w.Cloud.Inject(held)
	go func() {
		defer close(held.Release)
		select {
		case <-held.Reached:
			f()
		case <-w.Context().Done():
		}
	}()
}

// made are the ids of the keys that were made so far, oldest first.
func (w *fixture) made() []string {
	var ids []string
	for _, e := range w.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated {
			ids = append(ids, e.KeyID)
		}
	}
	return ids
}

func (w *fixture) live(id string) bool { _, ok := w.Cloud.LiveKeys()[id]; return ok }

// enabled reports whether a key exists and the provider accepts it.
func (w *fixture) enabled(id string) bool {
	on := false
	for _, e := range w.Cloud.Journal() {
		if e.KeyID == id {
			switch e.Kind {
			case simcloud.KeyCreated, simcloud.KeyEnabled:
				on = true
			case simcloud.KeyDisabled, simcloud.KeyDeleted:
				on = false
			}
		}
	}
	return on
}

// publishedSince reports whether applications were given a key from the n-th event of the journal on.
func (w *fixture) publishedSince(id string, n int) bool {
	return slices.ContainsFunc(w.Cloud.Journal()[n:], func(e simcloud.Event) bool { return e.Kind == simcloud.Published && e.KeyID == id })
}

// order are the events of the journal that a test asks for, in their order.
func (w *fixture) order(wanted func(simcloud.Event) bool) []simcloud.Event {
	return slices.DeleteFunc(w.Cloud.Journal(), func(e simcloud.Event) bool { return !wanted(e) })
}

// published is the key that applications read, which must be the same in every store.
func (w *fixture) published() string {
	w.Helper()
	var ids []string
	for path, id := range w.Cloud.PublishedKeys() {
		if !strings.HasSuffix(path, "-rekey-pending") {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 {
		w.Fatalf("applications read different keys: %v", w.Cloud.PublishedKeys())
	}
	return ids[0]
}

func (w *fixture) invariants() {
	w.Helper()
	for _, broken := range w.Cloud.Check(w.rules) {
		w.Error(broken)
	}
	if orphans := w.Cloud.Orphans(); len(orphans) > 0 {
		w.Errorf("orphans: %v", orphans)
	}
}

// gone checks that applications read a key that is none of these, and that these are gone.
func (w *fixture) gone(res rotation.Result, leaked ...string) {
	w.Helper()
	if res.Phase != rotation.Completed {
		w.Errorf("it ended as %s: %s %v", res.Phase, res.Outcome, res.FollowUps)
	}
	for _, id := range leaked {
		if w.live(id) {
			w.Errorf("%s is still live: %s", id, res.Outcome)
		}
	}
	if now := w.published(); slices.Contains(leaked, now) {
		w.Errorf("applications read %s: %s", now, res.Outcome)
	} else if !w.enabled(now) {
		w.Errorf("applications read %s, which the provider refuses", now)
	}
}

// unchanged checks that applications read the old key, that it works, and that no other one is left.
func (w *fixture) unchanged(res rotation.Result) {
	w.Helper()
	if res.Phase != rotation.RolledBack {
		w.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
	if now := w.published(); now != w.oldID {
		w.Errorf("applications read %s, want the old key %s", now, w.oldID)
	}
	if !w.enabled(w.oldID) {
		w.Error("the provider refuses the old key")
	}
	if n := len(w.Cloud.LiveKeys()); n != 1 {
		w.Errorf("%d keys are left: %v", n, w.Cloud.LiveKeys())
	}
}

// everything is an emergency that names nothing: every value that was made before has leaked.
var everything = rotation.DecisionMessage{ID: "e1", By: "responder", Why: "leaked"}

// leaked is an emergency that names what leaked.
func leaked(names ...string) rotation.DecisionMessage {
	return rotation.DecisionMessage{ID: "e2", By: "responder", Why: "leaked", Leaked: names}
}
