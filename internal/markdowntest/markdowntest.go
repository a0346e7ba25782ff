// Package markdowntest says what renderers make of a page, for tests.
package markdowntest

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/gomarkdown/markdown/ast"
	"github.com/gomarkdown/markdown/parser"
	"github.com/yuin/goldmark"
	goldast "github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/rekeyhq/rekey/rotation"
)

// Shown is what a renderer makes of a page.
type Shown struct {
	// Shape is the structure: one word for each element, but for text and for code within a line.
	Shape string
	// Text is all that is read, without spaces.
	Text string
	// Links are the addresses of links and images.
	Links []string
}

// temporalUI renders as the Temporal UI does (its server/route/ui.go).
func temporalUI(source string) Shown {
	var p Shown
	var b strings.Builder
	ast.WalkFunc(parser.NewWithExtensions(parser.CommonExtensions|parser.AutoHeadingIDs).Parse([]byte(source)), func(n ast.Node, entering bool) ast.WalkStatus {
		if !entering {
			return ast.GoToNext
		}
		switch n := n.(type) {
		case *ast.Text:
			b.WriteString(entities.Replace(string(n.Literal)))
			return ast.GoToNext
		case *ast.Code:
			b.Write(n.Literal)
			return ast.GoToNext
		case *ast.HTMLSpan:
			if text := string(n.Literal); entities.Replace(text) != text {
				b.WriteString(entities.Replace(text))
				return ast.GoToNext
			}
		case *ast.Link:
			p.Links = append(p.Links, string(n.Destination))
		case *ast.Image:
			p.Links = append(p.Links, string(n.Destination))
		}
		p.Shape += fmt.Sprintf("%T ", n)
		return ast.GoToNext
	})
	p.Text = Squeeze(b.String())
	return p
}

var entities = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")

// github renders CommonMark with GitHub's extensions.
func github(source string) Shown {
	var p Shown
	var b strings.Builder
	in := []byte(source)
	doc := goldmark.New(goldmark.WithExtensions(extension.GFM, extension.Footnote, extension.DefinitionList)).Parser().Parse(text.NewReader(in))
	_ = goldast.Walk(doc, func(n goldast.Node, entering bool) (goldast.WalkStatus, error) {
		if !entering {
			return goldast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *goldast.Text:
			if n.Parent().Kind() == goldast.KindCodeSpan {
				b.Write(n.Value(in))
			} else {
				b.WriteString(entities.Replace(backslash.ReplaceAllString(string(n.Value(in)), "$1"))) // as it was written, with its escapes
			}
			return goldast.WalkContinue, nil
		case *goldast.String:
			b.Write(n.Value)
			return goldast.WalkContinue, nil
		case *goldast.CodeSpan:
			return goldast.WalkContinue, nil
		case *goldast.Link:
			p.Links = append(p.Links, string(n.Destination))
		case *goldast.AutoLink:
			p.Links = append(p.Links, string(n.URL(in)))
			b.Write(n.Label(in))
		case *goldast.Image:
			p.Links = append(p.Links, string(n.Destination))
		}
		p.Shape += n.Kind().String() + " "
		return goldast.WalkContinue, nil
	})
	p.Text = Squeeze(b.String())
	return p
}

var backslash = regexp.MustCompile(`\\([\\*_\[\]~|$#+:.)-])`)

// Squeeze is a text without what a page shows otherwise: spaces, what hides, the few characters that code cannot have.
func Squeeze(s string) string {
	s = strings.NewReplacer("`", "'", "‹", "<", "›", ">").Replace(strings.ToValidUTF8(s, "\uFFFD"))
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !rotation.OneLine(string(r)) {
			return -1
		}
		return r
	}, s)
}

// Renderers are those that pages are held to: the one of the Temporal UI, and one for CommonMark with GitHub's extensions,
// because newer UIs may take another.
var Renderers = map[string]func(string) Shown{"the Temporal UI": temporalUI, "GitHub": github}

// Links are all addresses that any renderer leads to.
func Links(source string) (all []string) {
	for _, render := range Renderers {
		all = append(all, render(source).Links...)
	}
	return all
}
