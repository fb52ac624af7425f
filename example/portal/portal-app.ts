/** An app in the portal's navigation. */
export interface PortalApp {
  alias: string
  appId: string
  name: string
}
