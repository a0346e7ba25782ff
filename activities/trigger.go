package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// StartInput starts one rotation for somebody outside.
type StartInput struct {
	// Key is the name of a key of the worker's rekey.yaml.
	Key string `json:"key"`
	// Since is when the request was taken: a rotation that began later, and has ended, has served it.
	Since time.Time `json:"since"`
	By    string    `json:"by"`
	Why   string    `json:"why"`
	// Leaked makes it an emergency. It goes by ID, so that the same report is served once.
	Leaked bool   `json:"leaked,omitempty"`
	ID     string `json:"id,omitempty"`
	// Value is the fingerprint of what leaked; empty means every value of the key that was made before.
	Value string `json:"value,omitempty"`
}

// Started is what came of it.
type Started struct {
	Key string `json:"key"`
	// Started: this call started a rotation, or raised an emergency; a rotation may have been under way already.
	Started bool `json:"started"`
	// Done says in a sentence what was done, and why.
	Done string `json:"done"`
}

// StartRotation starts a rotation, or raises an emergency, of a key that a trigger named. It never asks for
// revoke-first. It may run any number of times. Unavailable, and retryable, if Temporal or the provider does not answer.
func (l *Launcher) StartRotation(ctx context.Context, in StartInput) (Started, error) {
	doing := "start the rotation of " + truncate(in.Key)
	keys := l.Keys()
	i := slices.IndexFunc(keys, func(k rotation.Key) bool { return k.Name == in.Key })
	if i < 0 {
		return Started{}, fault.New(fault.Rejected, "unknown_key", doing).WithAdvice("The worker's rekey.yaml has no key of that name.")
	}
	s, err := l.Starter.Latest(ctx, in.Key)
	if err != nil && !unreadable(err) { // what an earlier rotation has recorded holds nobody up
		return Started{}, fault.New(fault.Unavailable, "temporal", doing)
	}
	var out Started
	if in.Leaked {
		out, err = l.leakReported(ctx, keys[i], in, s)
	} else {
		out, err = l.rotationWanted(ctx, keys[i], in, s)
	}
	if out.Key = in.Key; err != nil && !errors.As(err, new(*fault.Error)) {
		// Starters' errors are Temporal's, and pass.
		err = fault.New(fault.Unavailable, "temporal", doing).WithAdvice("%s", truncate(err.Error()))
	}
	return out, err
}

func (l *Launcher) rotationWanted(ctx context.Context, k rotation.Key, in StartInput, s rotation.LatestRotation) (Started, error) {
	if r := s.Result; r != nil && !r.NotDue && r.StartedAt.After(in.Since) {
		return Started{Done: "A rotation that began after the request has ended already: " + truncate(r.Outcome)}, nil
	}
	started, err := l.Starter.StartManual(ctx, k, in.By, in.Why)
	switch {
	case err != nil:
		return Started{}, err
	case !started:
		return Started{Done: "A rotation is under way already."}, nil
	}
	return Started{Started: true, Done: "A rotation was started."}, nil
}

func (l *Launcher) leakReported(ctx context.Context, k rotation.Key, in StartInput, s rotation.LatestRotation) (Started, error) {
	m := rotation.DecisionMessage{ID: in.ID, By: in.By, Why: in.Why}
	if in.Value != "" {
		m.Leaked = []string{in.Value}
	}
	if s.Served(in.ID) {
		done := Started{Done: "An emergency rotation has served this already: " + truncate(s.Result.Outcome)}
		if in.Value == "" || s.Result.EndedAt.After(in.Since) && s.Result.Phase == rotation.Completed {
			return done, nil
		}
		// It may have ended without: the same value is reported again, and may be live again, or still.
		out, err := l.Identify(ctx, IdentifyInput{Fingerprints: []string{in.Value}, Within: []string{k.Name}})
		if err != nil {
			return Started{}, err
		}
		if !slices.ContainsFunc(out.Found, func(f Found) bool { return f.Live }) {
			return done, nil
		}
	}
	if err := l.Starter.Raise(ctx, k, m); err != nil {
		return Started{}, err
	}
	what := "every value made before now"
	if in.Value != "" {
		what = in.Value
	}
	return Started{Started: true, Done: fmt.Sprintf("The emergency was raised: %s leaked.", what)}, nil
}
