//! Functions and types of the production code, in the order of the source.

use syn::visit::{self, Visit};

use super::source::Source;

/// A function that the source defines, with or without a body.
pub(super) struct Function {
    pub name: String,
    /// The file, and the modules in it: `agent/src/platform/clock.rs::parts`.
    pub module: String,
    pub path: String,
    pub line: usize,
    /// From the signature to the closing brace; 0 without a body.
    pub lines: usize,
    /// The source between the braces.
    pub body: String,
    /// A method of `impl Trait for Type`, whose name the trait chose.
    pub is_named_by_trait: bool,
}

impl Function {
    /// Returns `path:line`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

/// A struct, enum, union, trait or type alias.
pub(super) struct Type {
    pub name: String,
    pub module: String,
    pub path: String,
    pub line: usize,
}

/// The definitions of one or several files.
#[derive(Default)]
pub(super) struct Definitions {
    pub functions: Vec<Function>,
    pub types: Vec<Type>,
}

/// Collects the definitions of all files. Code inside macros is not seen.
pub(super) fn collect_definitions(sources: &[Source]) -> Definitions {
    let mut all = Definitions::default();
    for source in sources {
        let module = vec![source.path.clone()];
        let mut collector = Collector { source, module, is_of_trait: false, found: &mut all };
        collector.visit_file(&source.syntax);
    }
    all
}

struct Collector<'a> {
    source: &'a Source,
    module: Vec<String>,
    is_of_trait: bool,
    found: &'a mut Definitions,
}

impl Collector<'_> {
    fn add_function(&mut self, signature: &syn::Signature, block: Option<&syn::Block>) {
        let line = signature.fn_token.span.start().line;
        let (lines, body) = block.map_or((0, String::new()), |block| {
            let braces = block.brace_token.span;
            let text = self
                .source
                .text
                .get(braces.open().byte_range().end..braces.close().byte_range().start);
            (braces.close().end().line + 1 - line, text.unwrap_or_default().to_owned())
        });
        self.found.functions.push(Function {
            name: signature.ident.to_string(),
            module: self.module.join("::"),
            path: self.source.path.clone(),
            line,
            lines,
            body,
            is_named_by_trait: self.is_of_trait,
        });
    }

    fn add_type(&mut self, name: &syn::Ident) {
        self.found.types.push(Type {
            name: name.to_string(),
            module: self.module.join("::"),
            path: self.source.path.clone(),
            line: name.span().start().line,
        });
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        let outer = std::mem::replace(&mut self.is_of_trait, false);
        self.add_function(&item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
        self.is_of_trait = outer;
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let outer = std::mem::replace(&mut self.is_of_trait, item.trait_.is_some());
        visit::visit_item_impl(self, item);
        self.is_of_trait = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add_function(&item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.add_function(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.add_type(&item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.add_type(&item.ident);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_union(&mut self, item: &'ast syn::ItemUnion) {
        self.add_type(&item.ident);
        visit::visit_item_union(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.add_type(&item.ident);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.add_type(&item.ident);
        visit::visit_item_type(self, item);
    }
}
