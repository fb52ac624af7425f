import { EXIT } from '../errors.js'
import type { Output, Style } from '../output.js'
import { jsonLine, plural, printable } from '../text.js'
import type { Finding } from './finding.js'

const TITLES: Record<Finding['area'], string> = { environment: 'This machine', tooljet: 'ToolJet', redis: 'Redis', capacity: 'Capacity' }
const MARKS: Record<Finding['level'], { mark: string, style: Style }> = {
  fine: { mark: 'ok', style: 'green' },
  note: { mark: '-', style: 'yellow' },
  problem: { mark: 'WRONG', style: 'red' },
  unreachable: { mark: 'WRONG', style: 'red' },
}
const COLUMN = 8

/** Prints findings, and sums them up. */
export class Report {
  readonly #out: Output
  readonly #isJson: boolean
  readonly #secrets: readonly string[]
  readonly #counts = { fine: 0, note: 0, problem: 0, unreachable: 0 }
  #area: Finding['area'] | undefined

  /** @param secrets that nothing may show: a server can repeat what it was sent */
  constructor (out: Output, { isJson, secrets }: { isJson: boolean, secrets: readonly string[] }) {
    this.#out = out
    this.#isJson = isJson
    this.#secrets = secrets.filter((secret) => secret !== '')
  }

  async add (finding: Finding): Promise<void> {
    const { area, level } = finding
    const text = this.#redact(finding.text)
    const remedy = finding.remedy === undefined ? undefined : this.#redact(finding.remedy)
    this.#counts[level]++
    if (this.#isJson) return this.#out.write(jsonLine({ ...finding, text, remedy }))
    if (area !== this.#area) await this.#out.write(`${this.#area === undefined ? '' : '\n'}${this.#out.styled('bold', TITLES[area])}\n`)
    this.#area = area
    const { mark, style } = MARKS[level]
    await this.#out.write(`  ${this.#out.styled(style, mark.padEnd(COLUMN - 2))}${printable(text)}\n`)
    if (remedy !== undefined && level !== 'fine') await this.#out.write(`${' '.repeat(COLUMN)}→ ${printable(remedy)}\n`)
  }

  #redact (text: string): string {
    return this.#secrets.reduce((text, secret) => text.replaceAll(secret, '[redacted]'), text)
  }

  /** @returns the exit code */
  async end (): Promise<number> {
    const { problem, unreachable } = this.#counts
    const wrong = problem + unreachable
    if (!this.#isJson) await this.#out.write(`\n${wrong === 0 ? 'Nothing is wrong.' : `${plural(wrong, 'thing is', 'things are')} wrong.`}\n`)
    if (unreachable > 0) return EXIT.unreachable
    return wrong > 0 ? EXIT.found : EXIT.fine
  }
}
