/** What scripts/site.ts uses of Eleventy, which has no types of its own. */
declare module "@11ty/eleventy" {
  export interface MarkdownToken {
    readonly attrGet: (name: string) => string | null;
    readonly attrSet: (name: string, value: string) => void;
    readonly children: readonly MarkdownToken[] | null;
  }

  export interface MarkdownLibrary {
    readonly set: (options: object) => void;
    readonly core: {
      readonly ruler: {
        readonly push: (
          name: string,
          rule: (state: { readonly tokens: readonly MarkdownToken[]; readonly env: { readonly source?: string } }) => void,
        ) => void;
      };
    };
  }

  export interface EleventyConfig {
    readonly setIncludesDirectory: (folder: string) => void;
    readonly setUseGitIgnore: (use: boolean) => void;
    readonly addPlugin: (plugin: unknown) => void;
    readonly amendLibrary: (name: string, change: (markdown: MarkdownLibrary) => void) => void;
    readonly setTemplateFormats: (formats: readonly string[]) => void;
    readonly addPassthroughCopy: (files: Readonly<Record<string, string>>) => void;
    readonly addTemplate: (name: string, text: string, data: object) => void;
  }

  export const IdAttributePlugin: unknown;

  export default class Eleventy {
    constructor(
      input: string,
      output: string,
      options: { readonly quietMode: boolean; readonly configPath: false; readonly config: (config: EleventyConfig) => void },
    );
    disableLogger(): void;
    write(): Promise<void>;
  }
}
