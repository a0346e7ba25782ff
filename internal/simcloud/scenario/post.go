package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The channels of a scenario.
const (
	Team   = "team"
	Oncall = "oncall"
)

// HookSecret is what the webhooks of a scenario are signed with.
const HookSecret = "a shared secret of the scenario"

// startPost starts the receiver and puts the secrets of its channels into files.
func (s *Scenario) startPost() (err error) {
	if s.opts.Dir == "" {
		return errors.New("a scenario without a Dir has no channels")
	}
	if s.Post, err = s.Cloud.StartReceiver(HookSecret); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(s.slackURL(), []byte(s.Post.SlackURL+"\n"), 0o600),
		os.WriteFile(s.hookSecret(), []byte(HookSecret+"\n"), 0o600),
	)
}

func (s *Scenario) slackURL() string   { return filepath.Join(s.opts.Dir, "slack-url") }
func (s *Scenario) hookSecret() string { return filepath.Join(s.opts.Dir, "hook-secret") }

// channels are those of the configuration.
func (s *Scenario) channels() string {
	if s.Post == nil {
		return ""
	}
	var hours string
	if len(s.opts.Quiet) > 0 {
		hours = "    hours: {" + strings.Join(s.opts.Quiet, ", ") + "}\n"
	}
	return fmt.Sprintf("channels:\n  - name: %s\n    type: slack\n    url_file: %q\n%s  - name: %s\n    type: webhook\n    url: %s\n    secret_file: %q\n",
		Team, s.slackURL(), hours, Oncall, s.Post.WebhookURL, s.hookSecret())
}
