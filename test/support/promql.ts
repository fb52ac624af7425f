import type { Sample } from './metrics.js'

const WORDS = new Set(['sum', 'min', 'max', 'rate', 'increase', 'histogram_quantile', 'label_values'])
/** Prometheus's own. */
const LABELS = ['job', 'instance']

/** A division by what may be 0: its value would be NaN, or infinite. */
export const UNGUARDED = / \/ (?!\(sum.* > 0\))/

/** What a PromQL query names: the samples that are in this scrape, and all names of samples or labels that are not. */
export function readQuery (query: string, scrape: readonly Sample[]): { samples: string[], unknown: string[] } {
  const names = new Set(scrape.map(({ name }) => name))
  const labels = new Set([...scrape.flatMap(({ labels }) => Object.keys(labels)), ...LABELS])
  const plain = query.replaceAll(/"[^"]*"/g, '""')
  const usedLabels = [
    ...[...plain.matchAll(/\{([^}]*)\}/g)].flatMap(([, matchers]) => [...matchers!.matchAll(/(\w+) *(?:=~|!~|!=|=)/g)].map(([, label]) => label!)),
    ...[...plain.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list]) => list!.split(/ *, */)),
  ]
  const rest = plain.replaceAll(/\{[^}]*\}|\[[^\]]*\]|\bby \([^)]*\)|, (?:job|instance)(?=\))/g, ' ')
  const used = [...rest.matchAll(/[a-zA-Z_:][\w:]*/g)].map(([word]) => word).filter((word) => !WORDS.has(word))
  return {
    samples: used.filter((name) => names.has(name)),
    unknown: [...used.filter((name) => !names.has(name)), ...usedLabels.filter((label) => !labels.has(label))],
  }
}
