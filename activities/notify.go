package activities

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// NotifyInput is for Notify.
type NotifyInput struct {
	Target
	// Channel is a name of the worker's own configuration.
	Channel      string                `json:"channel"`
	Notification rotation.Notification `json:"notification"`
	// Workflow is the id of the rotation, for the link.
	Workflow string `json:"workflow"`
}

// Notify notifies people through one channel. Run twice it may notify twice, with the same id. A channel that this worker
// does not have is Rejected. Any other error is the channel's own (notify.Channel); where that asks for a pause, the pause
// is spread over the rotations.
func (n *Notifier) Notify(ctx context.Context, in NotifyInput) error {
	if err := n.Allow(in.Key); err != nil {
		return err
	}
	c := n.Channels[in.Channel]
	if c == nil {
		return fault.New(fault.Rejected, "not_configured", fmt.Sprintf("notify %s about %s", in.Channel, in.Key.Name)).
			WithAdvice("This worker's rekey.yaml has no channel of that name. Add it, or restart the worker with the right file.")
	}
	info := activity.GetInfo(ctx)
	message := in.Notification.Clean()
	if message.Link = ""; n.UI != "" {
		message.Link = n.UI + "/namespaces/" + url.PathEscape(info.Namespace) + "/workflows/" + url.PathEscape(in.Workflow)
	}
	err := c.Notify(ctx, message)
	if f := fault.Of(err); err != nil && f.RetryAfter > 0 {
		// Many rotations were asked to come back in the same moment; they spread themselves, wider with each try.
		wait := time.Duration(info.Attempt) * 30 * time.Second
		again := *f
		again.RetryAfter = max(f.RetryAfter, wait/2) + rotation.Spread(message.ID, in.Key.Name, wait)
		return &again
	}
	return err
}
