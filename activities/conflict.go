package activities

import (
	"context"
	"time"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// Conflict names a key that this one must not be rotated with and whose rotation began earlier; empty if there is none.
// Each rotation asks after its own start, so of two at least the later one sees the other, and no lock is needed.
// Unavailable, and retryable, if Temporal does not answer.
func (s *Steps) Conflict(ctx context.Context, in Target) (string, error) {
	if err := s.Allow(in.Key); err != nil {
		return "", err
	}
	doing := "look whether a rotation is under way that " + in.Key.Name + " keeps apart from"
	ask := func(key string) (time.Time, bool, error) {
		since, running, err := s.Rotations.Running(ctx, key)
		if err != nil {
			return since, running, fault.New(fault.Unavailable, "temporal", doing).WithAdvice("Temporal did not answer about the rotations of %s.", key)
		}
		return since, running, nil
	}
	mine, _, err := ask(in.Key.Name)
	if err != nil {
		return "", err
	}
	for _, other := range in.Key.ConflictsWith {
		theirs, running, err := ask(other)
		if err != nil {
			return "", err
		}
		if running && hasPrecedence(other, theirs, in.Key.Name, mine) {
			return other, nil
		}
	}
	return "", nil
}

// hasPrecedence decides between two rotations: the one that began earlier goes on; of two that began together, the one
// whose key comes first by name.
func hasPrecedence(a string, sinceA time.Time, b string, sinceB time.Time) bool {
	if sinceA.Equal(sinceB) {
		return a < b
	}
	return sinceA.Before(sinceB)
}
