package activities

import (
	"context"
	"time"

	"github.com/rekeyhq/rekey/rotation"
)

// Rotations reports which rotations are under way. client asks Temporal.
type Rotations interface {
	// Running reports since when a rotation of the key is under way. It must not lag: what it does not see has not begun.
	Running(ctx context.Context, key string) (since time.Time, running bool, err error)
}

// Starter starts rotations for others than their schedule, and follows them. client does it over Temporal.
// Its errors are not *fault.Error; asked again, all may pass.
type Starter interface {
	// StartManual starts a rotation of reason manual. started is false if one is under way already.
	StartManual(ctx context.Context, k rotation.Key, by, why string) (started bool, err error)
	// Raise starts an emergency rotation, or makes the one that is under way an emergency. It is durable when it
	// returns; m.ID makes a repetition harmless, also a concurrent one. m says what leaked.
	Raise(ctx context.Context, k rotation.Key, m rotation.DecisionMessage) error
	// Latest reports how far the latest rotation of the key is. It does not lag.
	Latest(ctx context.Context, key string) (rotation.LatestRotation, error)
}
