package adapters

import (
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/notify/webhook"
)

// CheckChannels reports what is wrong with the files and variables that channels name. It sends nothing.
func CheckChannels(c *config.Config) error {
	var problems config.Problems
	for _, ch := range c.Channels {
		if err := webhook.New(ch.Options).Check(); err != nil {
			problems = append(problems, config.Problem{File: "channel " + ch.Name, Message: err.Error()})
		}
	}
	if len(problems) > 0 {
		return problems
	}
	return nil
}
