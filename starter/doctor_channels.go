package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/rotation"
)

// examineChannels looks at the secrets of every channel and whether somebody listens there, as seen from here. notify sends
// a message too: nothing less proves that it arrives.
func examineChannels(ctx context.Context, cfg *config.Config, notify bool) []checkResult {
	var all []checkResult
	for _, ch := range cfg.Channels {
		what := "channel " + ch.Name
		c := webhook.New(ch.Options)
		err := c.Connect(ctx)
		if err == nil && notify {
			err = c.Notify(ctx, testNotice(time.Now()).Clean())
		}
		switch {
		case err != nil:
			all = append(all, checkResult{what, false, err.Error()})
		case notify:
			all = append(all, checkResult{what, true, "a test message was taken"})
		default:
			all = append(all, checkResult{what, true, "somebody listens; --notify sends a test message"})
		}
	}
	return append(all, unused(cfg)...)
}

// unused finds channels that no policy uses: somebody may count on them.
func unused(cfg *config.Config) []checkResult {
	used := map[string]bool{}
	for _, k := range cfg.Keys {
		for _, c := range k.Policy.Channels() {
			used[c.Name] = true
		}
	}
	var idle []string
	for _, ch := range cfg.Channels {
		if !used[ch.Name] {
			idle = append(idle, ch.Name)
		}
	}
	if len(idle) == 0 {
		return nil
	}
	return []checkResult{{"channels", false, fmt.Sprintf("no key's policy notifies %s: add notify or escalate to a tier or a key", strings.Join(idle, ", "))}}
}

func testNotice(now time.Time) rotation.Notification {
	return rotation.Notification{
		ID: "test-" + uuid.NewString(), Event: rotation.EventTest, At: now.UTC(), Key: "no-key", Provider: "none", Rotation: "none",
		Reason: rotation.Manual, Phase: rotation.Prepare, Message: "This is what rekey sounds like when it needs a person (rekey doctor --notify, by " + currentUser() + "). Nothing is needed now.",
	}
}
