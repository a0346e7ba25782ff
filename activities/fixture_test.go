package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/internal/testlog"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
	"github.com/rekeyhq/rekey/worker/adapters"
)

// fixture runs activities with real adapters against a simulated cloud whose clock stands still until it is advanced.
type fixture struct {
	*testing.T
	*scenario.Scenario
	*simcloud.Clock
	acts *activities.Steps
	// launcher has no starter until a test sets one.
	launcher *activities.Launcher
	key      rotation.Key
	rules    simcloud.Rules
	// oldID is the key that is in the stores before any rotation.
	oldID string
	begin time.Time

	// said is everything that left an activity: results, errors, audit records.
	said testlog.Buffer
}

// The rotations of the tests.
var r1, r2, r3 = rotation.ID("first"), rotation.ID("second"), rotation.ID("third")

type setup struct {
	openai bool
	stores []string
	opts   scenario.Options
}

func google(stores ...string) setup { return setup{stores: stores} }

func newFixture(t *testing.T, s setup) *fixture {
	t.Helper()
	t.Parallel()
	// Certificates are dated by the real clock; Google refuses those from the future.
	now := time.Now().UTC().Truncate(time.Second)
	r := &fixture{T: t, Clock: simcloud.NewClock(now), begin: now}
	s.opts.Now, s.opts.KeyBits = r.Now, 1024
	if s.opts.RequestTimeout == "" {
		s.opts.RequestTimeout = "30s"
	}
	var err error
	if r.Scenario, err = scenario.Start(s.opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	name := "ci"
	if s.openai {
		name = "gpt"
		r.oldID, err = r.OpenAIKey(name, s.stores...)
	} else {
		r.oldID, err = r.Google(name, s.stores...)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.rules = scenario.Rules(name, s.stores...)
	r.acts, r.key = r.open(r.YAML())
	r.launcher = &activities.Launcher{Environment: r.acts.Environment, Index: &activities.Index{}}
	t.Cleanup(r.checkNothingLeaked)
	t.Cleanup(func() {
		for _, broken := range r.Cloud.Check(r.rules) {
			t.Error(broken)
		}
	})
	return r
}

// open makes the activities of a worker with this rekey.yaml.
func (r *fixture) open(yaml string) (*activities.Steps, rotation.Key) {
	r.Helper()
	cfg, err := config.Parse("rekey.yaml", []byte(yaml))
	if err != nil {
		r.Fatal(err)
	}
	opened, err := adapters.Open(context.Background(), cfg, slog.New(slog.NewJSONHandler(&r.said, nil)))
	if err != nil {
		r.Fatal(err)
	}
	opened.Now = r.Now
	return &activities.Steps{Environment: opened.Environment, Rotations: running{}}, cfg.Keys[0]
}

// note keeps what an activity answered, for the search for leaks.
func (r *fixture) note(out any, err error) {
	text, encodeErr := json.Marshal(out)
	if encodeErr != nil {
		r.Errorf("an answer cannot be encoded: %v", encodeErr)
	}
	_, _ = fmt.Fprintf(&r.said, "%s %v\n", text, err)
	var f *fault.Error
	if err != nil && !errors.As(err, &f) {
		r.Errorf("an error that nobody classified left an activity: %T", err)
	}
}

var keyLike = regexp.MustCompile(`PRIVATE KEY|sk-[A-Za-z0-9_-]{8,}`)

// checkNothingLeaked looks for any part of any value in what left the activities (I5).
func (r *fixture) checkNothingLeaked() {
	said := r.said.String()
	if keyLike.MatchString(said) {
		r.Error("something that looks like a key left an activity")
	}
	for _, v := range append(r.SM.Seen(), r.First(r.key.Name)) {
		for _, part := range materials(v) {
			if strings.Contains(said, part) {
				r.Errorf("a part of the value %s left an activity", v.Fingerprint())
			}
		}
	}
}

// materials are pieces of a value that only its owner knows.
func materials(v secret.Value) []string {
	var file struct {
		PrivateKey string `json:"private_key"`
	}
	text := v.Reveal()
	if json.Unmarshal([]byte(text), &file) == nil {
		lines := strings.Split(file.PrivateKey, "\n")
		return slices.DeleteFunc(lines, func(l string) bool { return len(l) < 24 || strings.HasPrefix(l, "--") })
	}
	return []string{text}
}

func (r *fixture) target(id string) activities.Target {
	return activities.Target{Key: r.key, Rotation: id}
}

func (r *fixture) tryCreate(id string) (activities.Created, error) {
	out, err := r.acts.Create(context.Background(), activities.CreateInput{Target: r.target(id), StartedAt: r.begin})
	r.note(out, err)
	return out, err
}

// create mints and stages, or fails the test.
func (r *fixture) create(id string) activities.Ref {
	r.Helper()
	out, err := r.tryCreate(id)
	if err != nil || out.New == nil {
		r.Fatalf("Create: %+v, %v", out, err)
	}
	return *out.New
}

func (r *fixture) prepare(id string, reason rotation.Reason) (activities.Prepared, error) {
	out, err := r.acts.Prepare(context.Background(), activities.PrepareInput{Target: r.target(id), Reason: reason, StartedAt: r.begin})
	r.note(out, err)
	return out, err
}

func (r *fixture) store(id string, n activities.Ref) activities.Ref {
	r.Helper()
	out, err := r.acts.Store(context.Background(), activities.StoreInput{Target: r.target(id), New: n})
	if r.note(out, err); err != nil {
		r.Fatalf("Store: %v", err)
	}
	return out
}

func (r *fixture) tryPromote(id string, to activities.Ref, duties ...activities.Ref) (activities.Promoted, error) {
	out, err := r.acts.Promote(context.Background(), activities.PromoteInput{Target: r.target(id), To: to, Duties: duties})
	r.note(out, err)
	return out, err
}

// published runs a rotation as far as the new value is current everywhere.
func (r *fixture) published(id string) (n activities.Ref, old []activities.Ref) {
	r.Helper()
	p, err := r.prepare(id, rotation.Manual)
	if err != nil {
		r.Fatalf("Prepare: %v", err)
	}
	n = r.store(id, r.create(id))
	verified, err := r.acts.Verify(context.Background(), activities.VerifyInput{Target: r.target(id), Value: n})
	if r.note(verified, err); err != nil || !verified.OK {
		r.Fatalf("Verify: %+v, %v", verified, err)
	}
	out, err := r.tryPromote(id, n, p.Old...)
	if err != nil || len(out.Lagging) > 0 {
		r.Fatalf("Promote: %+v, %v", out, err)
	}
	return out.To, p.Old
}

func (r *fixture) revoke(id string, mode activities.RevokeMode, keys ...activities.Ref) error {
	// What a rotation keeps is what it promoted: here, what stands as current.
	var keep activities.Ref
	if c := r.record(0).Current; c != nil {
		keep = activities.Ref{KeyID: c.KeyID, Fingerprint: c.Fingerprint}
	}
	return r.revokeKeeping(id, mode, keep, keys...)
}

func (r *fixture) revokeKeeping(id string, mode activities.RevokeMode, keep activities.Ref, keys ...activities.Ref) error {
	_, err := r.tryRevoke(activities.RevokeInput{Target: r.target(id), Keys: keys, Keep: keep, Mode: mode})
	return err
}

func (r *fixture) tryRevoke(in activities.RevokeInput) (activities.Revoked, error) {
	out, err := r.acts.Revoke(context.Background(), in)
	r.note(out, err)
	return out, err
}

func (r *fixture) tryRetire(id string, gone ...activities.Ref) (activities.Retired, error) {
	out, err := r.acts.Retire(context.Background(), activities.RetireInput{Target: r.target(id), Gone: gone})
	r.note(out, err)
	return out, err
}

// retire retires to the end, as a workflow does.
func (r *fixture) retire(id string, gone ...activities.Ref) (swept []string) {
	r.Helper()
	for range 3 {
		out, err := r.tryRetire(id, gone...)
		if err != nil {
			r.Fatalf("Retire: %v", err)
		}
		swept = append(swept, out.Swept...)
		if out.SweepIn == 0 {
			return swept
		}
		r.Advance(time.Duration(out.SweepIn))
	}
	r.Fatal("Retire asks for more time again and again")
	return nil
}

func (r *fixture) tryDiscard(id string) (activities.Discarded, error) {
	out, err := r.acts.Discard(context.Background(), activities.DiscardInput{Target: r.target(id)})
	r.note(out, err)
	return out, err
}

// discard discards to the end, as a workflow does.
func (r *fixture) discard(id string) activities.Discarded {
	r.Helper()
	for range 3 {
		out, err := r.tryDiscard(id)
		if err != nil {
			r.Fatalf("Discard: %v", err)
		}
		if out.SweepIn == 0 {
			return out
		}
		r.Advance(time.Duration(out.SweepIn))
	}
	r.Fatal("Discard asks for more time again and again")
	return activities.Discarded{}
}

func (r *fixture) record(i int) store.Snapshot {
	r.Helper()
	l := r.key.Stores[i]
	s, err := r.acts.Stores[l.Store].Load(context.Background(), l.Path)
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// write changes a record as somebody else would.
func (r *fixture) write(i int, change func(*store.Snapshot)) {
	r.Helper()
	s := r.record(i)
	change(&s)
	l := r.key.Stores[i]
	if _, err := r.acts.Stores[l.Store].Save(context.Background(), l.Path, s); err != nil {
		r.Fatal(err)
	}
}

func (r *fixture) horizon() time.Duration {
	c := r.acts.Providers[r.key.Provider].Capabilities()
	return 2*c.RequestTimeout + c.ListLag + time.Second
}

func (r *fixture) live(id string) bool { _, ok := r.Cloud.LiveKeys()[id]; return ok }

// keys checks which keys exist.
func (r *fixture) keys(want ...string) {
	r.Helper()
	got := slices.Sorted(maps.Keys(r.Cloud.LiveKeys()))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		r.Errorf("the provider holds the keys %v, want %v (old: %s)", got, want, r.oldID)
	}
}

func (r *fixture) mints() int {
	return r.Cloud.Calls(simcloud.GoogleIAMService, "UploadServiceAccountKey")
}

// fails checks class and code of a fault.
func (r *fixture) fails(err error, class fault.Class, code string) *fault.Error {
	r.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Class != class || code != "" && f.Code != code {
		r.Fatalf("want %s %s, got %v", class, code, err)
	}
	if f.Doing == "" {
		r.Errorf("the fault does not say what was tried: %v", f)
	}
	return f
}

// upload is a fault of the next mint.
func upload(kind simcloud.FaultKind) simcloud.Fault {
	return simcloud.Fault{Service: simcloud.GoogleIAMService, Method: "UploadServiceAccountKey", Times: 1, Kind: kind}
}

// inStore is a fault of the next request to a method of Secret Manager.
func inStore(method string, kind simcloud.FaultKind) simcloud.Fault {
	return simcloud.Fault{Service: simcloud.SecretManagerService, Method: method, Times: 1, Kind: kind}
}

// noClaim takes the claim of a rotation that was terminated out of a record.
func noClaim(s *store.Snapshot) { s.Claim = nil }

// names reports whether a question names something.
func names(q *rotation.Ask, what string) bool { return q != nil && strings.Contains(q.Text, what) }
