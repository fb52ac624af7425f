/** While it runs. */
export function progress (text: string): void {
  console.error(`  ${text}`)
}
