package config

import (
	"regexp"
	"slices"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// operatorName is what a message can say in `by` and a list can show: an address, an account name.
var operatorName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._%+@-]{0,63}$`)

// operators reads who may sign decisions.
func (c *check) operators() {
	names, keys := map[string]bool{}, map[string]string{}
	for i, f := range c.file.Operators {
		where := yamlPath("$.operators").index(i)
		switch {
		case f.Name == "":
			c.problem(where.field("name"), "missing; every operator has a name, such as alice@example.com")
		case !operatorName.MatchString(f.Name) || rotation.LooksLikeKey(f.Name):
			c.problem(where.field("name"), "%q cannot name an operator; expected one word, such as alice@example.com", f.Name)
		case names[f.Name]:
			c.problem(where.field("name"), "another operator is called %q already; who has two keys chooses one", f.Name)
		}
		names[f.Name] = true
		if f.SSHKey == "" {
			c.problem(where.field("ssh_key"), `missing; expected the operator's public key, like "ssh-ed25519 AAAA…", from the .pub file`)
			continue
		}
		key, err := signed.ParseKey(f.SSHKey)
		if err != nil {
			c.problem(where.field("ssh_key"), "%v", err)
			continue
		}
		line := signed.Line(key)
		if other, taken := keys[line]; taken {
			c.problem(where.field("ssh_key"), "%s has this key already; two operators cannot be one pair of hands", other)
		}
		keys[line] = f.Name
		c.out.Operators = append(c.out.Operators, rotation.Operator{Name: f.Name, Key: line})
	}
}

// fourEyes looks whether four eyes can be had.
func (c *check) fourEyes(where yamlPath, p *rotation.Policy) {
	if !p.FourEyes {
		return
	}
	p.Approve = true
	// Operators that are wrong are reported where they stand.
	if n := len(c.file.Operators); n < rotation.Eyes {
		c.problem(where, "needs at least %d operators who can sign, and the file names %d; list them under operators", rotation.Eyes, n)
	}
}

// Operator finds an operator by public key, as authorized_keys has it.
func (c *Config) Operator(key string) (rotation.Operator, bool) {
	i := slices.IndexFunc(c.Operators, func(o rotation.Operator) bool { return o.Key == key })
	if i < 0 {
		return rotation.Operator{}, false
	}
	return c.Operators[i], true
}
