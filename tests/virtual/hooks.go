package virtual

import (
	"context"
	"time"

	"go.temporal.io/sdk/interceptor"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Hooks let a test look into a world, and interfere with it.
type Hooks struct {
	// Scenario, if set, changes the scenario before it starts.
	Scenario func(*scenario.Options)
	// Workers come before the world's own interceptors.
	Workers []interceptor.WorkerInterceptor
	// Requests see every request to Temporal, and its answer.
	Requests []grpc.UnaryClientInterceptor
}

// Start is Rotate with an input of its own. What closed the workflow, if it did not end by itself, is in closed.
func (w *World) Start(ctx context.Context, after time.Duration, in workflows.Input) (res rotation.Result, closed string, err error) {
	var out ended
	err = w.order(ctx, rotateUpdate, order{After: after, Input: in}, &out)
	return out.Result, out.Closed, err
}
