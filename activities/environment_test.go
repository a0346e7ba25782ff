package activities_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

// counter counts what is registered.
type counter int

func (c *counter) RegisterActivityWithOptions(any, activity.RegisterOptions) { *c++ }

func TestAGroupThatLacksARequiredFieldIsNotRegistered(t *testing.T) {
	type groups struct {
		*activities.Environment
		steps    *activities.Steps
		notifier *activities.Notifier
		launcher *activities.Launcher
	}
	complete := func() groups {
		e := &activities.Environment{
			Install: "scene1", Providers: map[string]provider.Provider{}, Stores: map[string]store.Store{},
			Allow: func(rotation.Key) error { return nil }, Keys: func() []rotation.Key { return nil },
			Now: time.Now, Audit: slog.New(slog.DiscardHandler),
		}
		return groups{
			e, &activities.Steps{Environment: e, Rotations: running{}}, &activities.Notifier{Environment: e, Channels: map[string]notify.Channel{}},
			&activities.Launcher{Environment: e, Starter: &fakeStarter{}, Index: &activities.Index{}},
		}
	}
	for field, take := range map[string]func(groups){
		"":                      func(groups) {},
		"Environment.Install":   func(g groups) { g.Install = "" },
		"Environment.Providers": func(g groups) { g.Providers = nil },
		"Environment.Stores":    func(g groups) { g.Stores = nil },
		"Environment.Allow":     func(g groups) { g.Allow = nil },
		"Environment.Keys":      func(g groups) { g.Keys = nil },
		"Environment.Now":       func(g groups) { g.Now = nil },
		"Environment.Audit":     func(g groups) { g.Audit = nil },
		"Environment":           func(g groups) { g.steps.Environment, g.launcher.Environment = nil, nil },
		"Steps.Rotations":       func(g groups) { g.steps.Rotations = nil },
		"Notifier.Channels":     func(g groups) { g.notifier.Channels = nil },
		"Launcher.Starter":      func(g groups) { g.launcher.Starter = nil },
		"Launcher.Index":        func(g groups) { g.launcher.Index = nil },
	} {
		t.Run(field, func(t *testing.T) {
			g := complete()
			take(g)
			var rotations, launches counter
			inRotation := activities.RegisterRotation(&rotations, g.steps, g.notifier)
			inLaunch := activities.RegisterLaunch(&launches, g.launcher)
			for group, c := range map[string]struct {
				err        error
				registered counter
				concerned  bool
			}{
				"rotation": {inRotation, rotations, field != "" && !strings.HasPrefix(field, "Launcher")},
				"launch":   {inLaunch, launches, field != "" && !strings.HasPrefix(field, "Steps") && !strings.HasPrefix(field, "Notifier")},
			} {
				if c.concerned != (c.err != nil) || c.concerned != (c.registered == 0) {
					t.Errorf("%s: %v, %d registered", group, c.err, c.registered)
				}
				if c.err != nil && !strings.Contains(c.err.Error(), "the required field "+field+" is not set") {
					t.Errorf("%s: %v does not name %s", group, c.err, field)
				}
			}
		})
	}
}
