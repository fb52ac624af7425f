import type { Output, Style } from '../output.js'
import { fitted, printable, widthOf } from '../text.js'

export interface Column<Row> {
  title: string
  cell: (row: Row) => string
  /** Least width; if there is no room for it, the last columns are left out. */
  min?: number
  /** Left out before the others. */
  isExtra?: boolean
  /** Width in a table whose rows are not known yet. */
  usual?: number
  /** Numbers. */
  alignRight?: boolean
  style?: (row: Row) => Style | undefined
}

const GAP = '  '

/** Rows in columns that fit the terminal; without a terminal every value is complete. */
export class Table<Row> {
  readonly #columns: readonly Column<Row>[]
  readonly #out: Output
  #widths: number[] | undefined

  constructor (columns: readonly Column<Row>[], out: Output) {
    this.#columns = columns
    this.#out = out
  }

  /** Formats rows, with the header before the first ones; their values decide the widths. */
  lines (rows: readonly Row[]): string {
    const cells = rows.map((row) => this.#columns.map(({ cell }) => printable(cell(row))))
    const isFirst = this.#widths === undefined
    this.#widths ??= this.#layOut(cells)
    const lines = cells.map((texts, i) => this.#line(texts, (column) => column.style?.(rows[i]!)))
    if (isFirst) lines.unshift(this.#line(this.#columns.map(({ title }) => title), () => 'bold'))
    return lines.join('')
  }

  #layOut (cells: string[][]): number[] {
    const widths = this.#columns.map(({ title, usual = 0 }, i) => {
      return cells.reduce((widest, texts) => Math.max(widest, widthOf(texts[i]!)), Math.max(widthOf(title), cells.length === 0 ? usual : 0))
    })
    const minima = this.#columns.map(({ min = 0 }, i) => Math.min(widths[i]!, min || widths[i]!))
    const room = this.#out.width
    while (minima.length > 1 && lengthOf(minima) > room) minima.pop()
    widths.length = minima.length
    for (let excess = lengthOf(widths) - room; excess > 0; excess--) {
      const spare = widths.map((width, i) => (width > minima[i]! ? width + (this.#columns[i]!.isExtra === true ? Number.MAX_SAFE_INTEGER / 2 : 0) : 0))
      const widest = spare.indexOf(Math.max(...spare))
      if (spare[widest] === 0) break
      widths[widest]!--
    }
    return widths
  }

  #line (texts: string[], styleOf: (column: Column<Row>) => Style | undefined): string {
    const isCut = this.#out.isTerminal
    const shown = this.#widths!.map((width, i) => {
      const [column, text] = [this.#columns[i]!, texts[i]!]
      const missing = Math.max(0, width - widthOf(text))
      const placed = column.alignRight === true ? ' '.repeat(missing) + text : text + ' '.repeat(missing)
      const style = styleOf(column)
      const cell = isCut && widthOf(text) > width ? fitted(text, width) : placed
      return style === undefined ? cell : this.#out.styled(style, cell)
    })
    return `${shown.join(GAP).trimEnd()}\n`
  }
}

function lengthOf (widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1))
}
