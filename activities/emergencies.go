package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// raiseConcurrency is how many rotations RaiseAll starts, or joins, at once.
const raiseConcurrency = 16

// errUnchanged says that a look has found nothing that the workflow does not know. No harm is done: it is not logged as a
// failure, and counted as none.
var errUnchanged = fault.New(fault.Unavailable, "no_news", "wait for news of rotations").WithAdvice("Nothing is wrong: the Temporal server asks again until there is some.")

// maxWhy is how many characters a key of an emergency says about itself: a history holds thousands of rows, many times.
const maxWhy = 100

// RaiseAllInput raises one emergency over many keys.
type RaiseAllInput struct {
	// Names are names of keys of the worker's rekey.yaml.
	Names []string `json:"names"`
	// Message says what leaked. Its ID makes a repetition harmless.
	Message rotation.DecisionMessage `json:"message"`
}

// Raised is what came of raising the emergency for one key.
type Raised struct {
	Key string `json:"key"`
	// At is when the emergency was durable with the key's rotation; zero if it could not be raised.
	At time.Time `json:"at,omitzero"`
	// Problem says why it could not be raised. Hopeless: asked again it would be the same.
	Problem  string `json:"problem,omitempty"`
	Hopeless bool   `json:"hopeless,omitempty"`
}

// RaiseAll starts an emergency rotation of each key, or joins the one that is under way, and returns for each name in
// order what came of it. It may run any number of times: a key whose latest rotation has served this emergency is left
// alone. It fails only when the worker stops half-way; retryable.
func (l *Launcher) RaiseAll(ctx context.Context, in RaiseAllInput) ([]Raised, error) {
	keys := map[string]rotation.Key{}
	for _, k := range l.Keys() {
		keys[k.Name] = k
	}
	out := make([]Raised, len(in.Names))
	var all errgroup.Group
	all.SetLimit(raiseConcurrency)
	defer keepHeartbeat(ctx)()
	for i, name := range in.Names {
		k, known := keys[name]
		if !known {
			out[i] = Raised{Key: name, Hopeless: true, Problem: fmt.Sprintf("The worker's rekey.yaml has no key %q. Give the worker the file that has it.", truncate(name))}
			continue
		}
		all.Go(func() error {
			out[i] = l.raise(ctx, k, in.Message)
			return nil
		})
	}
	_ = all.Wait() // no one fails
	if ctx.Err() != nil {
		return nil, fault.New(fault.Unavailable, "stopped", "raise an emergency")
	}
	return out, nil
}

// raiseTimeout is how long one key may hold up the others.
const raiseTimeout = 20 * time.Second

func (l *Launcher) raise(ctx context.Context, k rotation.Key, m rotation.DecisionMessage) Raised {
	r := Raised{Key: k.Name}
	ctx, cancel := context.WithTimeout(ctx, raiseTimeout)
	defer cancel()
	// Its rotation may have ended since the reply of an earlier try was lost; another one would follow it. What the
	// rotation before has recorded cannot hold an emergency up: where that is unreadable, one rotation too many is the
	// lesser evil.
	s, err := l.Starter.Latest(ctx, k.Name)
	if unreadable(err) || err == nil && !s.Served(m.ID) {
		err = l.Starter.Raise(ctx, k, m)
	}
	if err != nil {
		r.Problem = truncate(err.Error())
		return r
	}
	r.At = l.now()
	return r
}

// unreadable reports whether Temporal answered, and what it has kept of a rotation makes no sense. That is the problem of
// one key, where no answer is everybody's.
func unreadable(err error) bool { return fault.Is(err, fault.Internal) }

// StatusesInput asks how far the rotations are that were to serve an emergency.
type StatusesInput struct {
	// ID is the emergency's.
	ID    string   `json:"id"`
	Names []string `json:"names"`
	// Known is what the caller knows of each, in the order of the names: only the status of keys that differ from it is
	// returned. Left out, every status is returned.
	Known []KnownStatus `json:"known,omitempty"`
}

// KnownStatus is what an emergency knows of a rotation that is under way.
type KnownStatus struct {
	Phase rotation.Phase `json:"phase,omitempty"`
	// Unreadable: what it has recorded could not be read.
	Unreadable bool `json:"unreadable,omitempty"`
}

// RotationStatus is a rotation.LatestRotation without what would fill the history of an emergency.
type RotationStatus struct {
	Key     string         `json:"key"`
	Running bool           `json:"running,omitempty"`
	Phase   rotation.Phase `json:"phase,omitempty"`
	// Unreadable says that what the rotation has recorded cannot be read, and nothing else is known. It is empty where it
	// can.
	Unreadable string `json:"unreadable,omitempty"`
	// Served: the rotation has ended, and took the emergency. What follows is set only then.
	Served      bool      `json:"served,omitempty"`
	PublishedAt time.Time `json:"publishedAt,omitzero"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	Outcome     string    `json:"outcome,omitempty"`
	// Unknown: the emergency named values that nobody knows.
	Unknown bool `json:"unknown,omitempty"`
	// FollowUps is how many things the rotation left for a person.
	FollowUps int `json:"followUps,omitempty"`
}

// differs reports whether a standing differs from what is known. A rotation that does not run is always news.
func (s RotationStatus) differs(k KnownStatus) bool {
	if s.Unreadable != "" {
		return !k.Unreadable
	}
	return k.Unreadable || !s.Running || s.Phase != k.Phase
}

// Statuses returns how far the latest rotation of each key is, in the order of the names; where something is known
// already, only of the keys of which there is news. While there is none it fails with errUnchanged, so that the Temporal
// server asks again and again, which leaves no trace in the history of the workflow that waits. It changes nothing. Its
// errors are retryable.
func (l *Launcher) Statuses(ctx context.Context, in StatusesInput) ([]RotationStatus, error) {
	const doing = "look how far rotations are"
	if len(in.Known) > 0 && len(in.Known) != len(in.Names) {
		return nil, fault.New(fault.Rejected, "bad_input", doing)
	}
	out, silent := make([]RotationStatus, len(in.Names)), make([]bool, len(in.Names))
	var all errgroup.Group
	all.SetLimit(raiseConcurrency)
	defer keepHeartbeat(ctx)()
	for i, name := range in.Names {
		all.Go(func() error {
			var err error
			out[i], err = l.rotationStatus(ctx, name, in.ID)
			silent[i] = err != nil
			return nil
		})
	}
	_ = all.Wait() // no one fails
	unanswered := slices.Contains(silent, true)
	if in.Known == nil {
		if unanswered {
			return nil, fault.New(fault.Unavailable, "temporal", doing)
		}
		return out, nil
	}
	var news []RotationStatus
	for i, s := range out {
		if !silent[i] && s.differs(in.Known[i]) {
			news = append(news, s)
		}
	}
	switch {
	case len(news) > 0:
		return news, nil
	case unanswered:
		return nil, fault.New(fault.Unavailable, "temporal", doing)
	}
	return nil, errUnchanged
}

// rotationStatus fails only if Temporal does not answer.
func (l *Launcher) rotationStatus(ctx context.Context, key, id string) (RotationStatus, error) {
	s, err := l.Starter.Latest(ctx, key)
	if unreadable(err) {
		why := "What its rotation has recorded cannot be read"
		if code := fault.Of(err).Code; code != "" {
			why += " (" + code + ")"
		}
		return RotationStatus{Key: key, Unreadable: truncate(why)}, nil
	} else if err != nil {
		return RotationStatus{}, err
	}
	out := RotationStatus{Key: key, Running: s.Running, Phase: s.Phase}
	if s.Served(id) {
		r := s.Result
		out.Served, out.Phase, out.PublishedAt, out.RevokedAt = true, r.Phase, r.PublishedAt, r.RevokedAt
		out.Outcome, out.FollowUps, out.Unknown = truncate(r.Outcome), len(r.FollowUps), r.Unknown
	}
	return out, nil
}

// keepHeartbeat reports to Temporal that the activity is alive, until the function that it returns is called.
func keepHeartbeat(ctx context.Context) (stop func()) {
	done := make(chan struct{})
	go func() {
		t := time.NewTicker(3 * time.Second)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-t.C:
				activity.RecordHeartbeat(ctx)
			}
		}
	}()
	return func() { close(done) }
}

// truncate cuts a text to what a row has room for.
func truncate(text string) string {
	if r := []rune(text); len(r) > maxWhy {
		return string(r[:maxWhy-1]) + "…"
	}
	return text
}
