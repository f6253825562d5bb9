package notify

import (
	"strings"
	"unicode/utf16"
)

// The GSM 7-bit alphabet. Source: 3GPP TS 23.038, default alphabet and its
// extension table, whose characters take two places.
const (
	gsmBasic = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
		"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtended = "\f^{}\\[~]|€"
)

// Places in one message, and in each part of a message of several.
// Source: 3GPP TS 23.040, 140 octets less a header of 6.
const (
	gsmSingle, gsmPart = 160, 153
	ucsSingle, ucsPart = 70, 67
)

// plainer replaces what would cost a whole message its 7-bit alphabet for nothing.
var plainer = strings.NewReplacer("…", "...", "–", "-", "—", "-", "→", "->", "“", `"`, "”", `"`, "’", "'", "×", "x", "\u00a0", " ", "\t", " ")

// places counts what a text takes: 7-bit characters, or 16-bit units when one of
// its characters is outside the GSM alphabet.
func places(text string) (n int, ucs bool) {
	for _, r := range text {
		switch {
		case strings.ContainsRune(gsmBasic, r):
			n++
		case strings.ContainsRune(gsmExtended, r):
			n += 2
		default:
			return len(utf16.Encode([]rune(text))), true
		}
	}
	return n, false
}

// parts counts the messages that a text takes.
func parts(text string) int {
	n, ucs := places(text)
	single, part := gsmSingle, gsmPart
	if ucs {
		single, part = ucsSingle, ucsPart
	}
	if n <= single {
		return 1
	}
	return (n + part - 1) / part
}

// fit makes a text plain where that costs no meaning and cuts it to so many
// parts, with dots where it was cut.
func fit(text string, most int) string {
	text = plainer.Replace(strings.Join(strings.Fields(text), " "))
	if parts(text) <= most {
		return text
	}
	runes := []rune(text)
	low, high := 0, len(runes) // the longest prefix that fits with its dots
	for low < high {
		middle := (low + high + 1) / 2
		if parts(string(runes[:middle])+"...") <= most {
			low = middle
		} else {
			high = middle - 1
		}
	}
	return string(runes[:low]) + "..."
}
